"""What a file of footage may be, by its name, and which containers are opened."""

VIDEOS = frozenset(
    """
    .mp4 .m4v .mov .qt .mkv .webm .avi .mpg .mpeg .vob .ts .mts .m2ts .wmv .asf .3gp .3g2 .flv .ogv .mxf .gif
    """.split()
)
# these may move as well: animated WebP, PNG and AVIF are videos
IMAGES = frozenset(
    """
    .png .apng .jpg .jpeg .jpe .jfif .webp .bmp .tif .tiff .avif .heic .heif
    """.split()
)
# a playlist dressed up as a video could name other files, so only containers that hold their own pictures are opened
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,gif,asf,flv,ogg,mxf,nut,ivf,dv,mpegvideo,m4v,h264,hevc,"
    "apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
