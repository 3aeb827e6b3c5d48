"""Real video files as training data: cuts, rates, sizes, captions, broken files, and the cache of their latents."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.encode import cache_folder
from comfyui_spacetime.models.clips.folder import list_clips
from comfyui_spacetime.models.clips.footage import cuts, look, read_clip
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE

av = pytest.importorskip("av")
SIZES = ClipSize.parse_list("32x32x9,48x32x9,32x32x1")


def write_video(path: Path, frames: list[np.ndarray], fps: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=fps, options={"crf": "8"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def counting(count: int, height: int = 40, width: int = 60) -> list[np.ndarray]:
    """Frame i is gray of brightness 20 + 5 i, so that a picture tells its number."""
    return [np.full((height, width, 3), 20 + 5 * i, np.uint8) for i in range(count)]


def numbers(frames: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 18) / 5) for frame in frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two good videos, a picture, and files that are broken in different ways."""
    root = tmp_path_factory.mktemp("clips")
    dark, light = counting(24), [270 - frame.astype(int) for frame in counting(24)]
    write_video(root / "walk.mp4", [*dark, *(frame.astype(np.uint8) for frame in light)], 12)
    (root / "walk.txt").write_text("someone walks\n\nsomeone walks slowly\n", encoding="utf-8")
    write_video(root / "red_ball" / "a.mp4", counting(30, 60, 40), 24)
    whole = (root / "walk.mp4").read_bytes()
    (root / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "empty.mkv").write_bytes(b"")
    (root / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:2,\nfile://{root}/walk.mp4\n#EXT-X-ENDLIST\n", encoding="utf-8")
    (root / ".hidden.mp4").write_bytes(whole)
    return root


def test_a_cut_is_a_change_far_above_those_around_it():
    assert cuts([0, 0.01, 0.01, 0.3, 0.01, 0.01]) == [3]
    assert cuts([0, 0.2, 0.25, 0.2, 0.3, 0.2, 0.25]) == []  # wild motion all along
    assert cuts([0, 0.01, 0.01, 0.05, 0.01]) == []  # a small jump
    assert cuts([0]) == []


def test_scenes_are_found_and_clips_do_not_cross_them(folder):
    footage = look(folder / "walk.mp4")
    assert (footage.width, footage.height, footage.num_frames) == (60, 40, 48)
    assert [round(scene.start, 2) for scene in footage.scenes] == [0, 2]
    for clip in list_clips(folder, SIZES[:1]).clips:
        if clip.file == "walk.mp4":
            assert int(clip.start) == int(clip.start + 8 / 12)  # within [0, 2) or [2, 4)


@pytest.mark.parametrize(("fps", "expected"), [(12, [6, 7, 8, 9]), (6, [6, 8, 10, 12]), (24, [6, 6, 7, 7])])
def test_any_rate_is_read_as_the_frames_that_are_shown_then(folder, fps, expected):
    frames = read_clip(folder / "walk.mp4", 0.5, 4, fps, 32, 32)
    assert frames.shape == (4, 32, 32, 3)
    assert numbers(frames) == expected


def test_a_clip_beyond_the_end_is_refused(folder):
    with pytest.raises(ValueError, match="it ends before"):
        read_clip(folder / "walk.mp4", 3.5, 12, 12, 32, 32)


def test_the_middle_is_kept_without_distortion(tmp_path):
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[:, 32:96] = 255  # the middle square
    clip = read_clip(write_video(tmp_path / "a.mp4", [frame] * 4, 12), 0, 2, 12, 32, 32)
    assert clip.min() > 240


def test_captions_come_from_the_text_beside_a_file_or_its_folders_name(folder):
    captions = {clip.file: clip.captions for clip in list_clips(folder, SIZES).clips}
    assert captions["walk.mp4"] == ("someone walks", "someone walks slowly")
    assert captions["red_ball/a.mp4"] == ("red ball",)


def test_each_clip_goes_to_the_size_nearest_to_its_shape(folder):
    sizes = {clip.file: str(clip.size) for clip in list_clips(folder, SIZES).clips}
    assert sizes == {"walk.mp4": "48x32x9", "red_ball/a.mp4": "32x32x9"}


def test_broken_files_are_skipped_and_listed(folder):
    listing = list_clips(folder, SIZES)
    assert sorted(name for name, _ in listing.skipped) == ["empty.mkv", "half.mp4", "list.mp4"]
    assert "skipped half.mp4" in listing.text()


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "out.mp4").symlink_to(folder / "walk.mp4")
    with pytest.raises(ValueError, match="leads out of the folder"):
        list_clips(tmp_path, SIZES)


def test_no_clips_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no clip to train on"):
        list_clips(tmp_path, SIZES)
    with pytest.raises(ValueError, match="there is no folder"):
        list_clips(tmp_path / "nowhere", SIZES)


def test_held_out_clips_are_never_trained_on_unless_there_is_only_one(folder, tmp_path):
    listing = list_clips(folder, SIZES)
    held_out, trained = listing.part(held_out=True), listing.part(held_out=False)
    assert len(held_out) == 1
    assert not set(held_out) & set(trained)
    assert set(held_out) | set(trained) == set(listing.clips)
    (tmp_path / "one.mp4").write_bytes((folder / "red_ball" / "a.mp4").read_bytes())
    single = list_clips(tmp_path, SIZES)
    assert single.part(held_out=True) == single.part(held_out=False) == single.clips
    assert single.uncaptioned == 1


def test_known_files_are_not_read_again_and_changed_ones_are(folder, tmp_path, monkeypatch):
    index = tmp_path / "index.json"
    first = list_clips(folder, SIZES, index=index)
    seen: list[str] = []
    monkeypatch.setattr("comfyui_spacetime.models.clips.folder.look", lambda path: seen.append(path.name) or look(path))
    assert list_clips(folder, SIZES, index=index).clips == first.clips
    assert seen == []
    index.write_text("{ not json", encoding="utf-8")
    assert list_clips(folder, SIZES, index=index) == first
    assert "walk.mp4" in seen


def encoder(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stands for the text encoder."""
    lengths = torch.tensor([len(text) + 1 for text in texts])
    longest = int(lengths.max())
    return torch.ones(len(texts), longest, 384), torch.arange(longest) < lengths[:, None]


def test_the_cache_is_kept_until_the_clips_or_the_vae_change(folder, tmp_path):
    torch.manual_seed(0)
    vae = VideoVAE(PRESETS["test"])
    listing = list_clips(folder, SIZES)
    assert cache_folder(tmp_path, folder, listing.clips, vae, encoder) == []
    cache = LatentCache(tmp_path)
    assert sum(map(len, cache.buckets.values())) == len(listing.clips)
    latents, texts = cache.buckets["32x32x9"][0]
    assert latents.shape == (16, 3, 4, 4)
    assert [len(text) for text in texts] == [len("red ball") + 1]
    drawn = cache.draw("48x32x9", 3, torch.Generator().manual_seed(0))
    assert {len(example.text) for example in drawn} <= {14, 21}

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cache_folder(tmp_path, folder, listing.clips, vae, encoder)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    fewer = [clip for clip in listing.clips if clip.file == "walk.mp4"]
    cache_folder(tmp_path, folder, fewer, vae, encoder)
    assert list(LatentCache(tmp_path).buckets) == ["48x32x9"]
    with torch.no_grad():
        vae.encoder.linear.weight.mul_(2)
    before = set(tmp_path.iterdir())
    cache_folder(tmp_path, folder, fewer, vae, encoder)
    assert not before & set(tmp_path.iterdir())


def test_a_file_that_broke_meanwhile_is_left_out(folder, tmp_path):
    listing = list_clips(folder, SIZES)
    copy = tmp_path / "copy"
    (copy / "red_ball").mkdir(parents=True)
    (copy / "red_ball" / "a.mp4").write_bytes((folder / "red_ball" / "a.mp4").read_bytes())
    (copy / "walk.mp4").write_bytes(b"no video any more")
    torch.manual_seed(0)
    problems = cache_folder(tmp_path / "cache", copy, listing.clips, VideoVAE(PRESETS["test"]), encoder)
    assert problems
    assert list(LatentCache(tmp_path / "cache").buckets) == ["32x32x9"]


# -- what people's files are like --------------------------------------------------------------------------------------

KINDS = {  # container: codec, pixel format, frames a second
    "h264.mp4": ("h264", "yuv420p", 12),
    "ten_bit.mp4": ("h264", "yuv420p10le", 60),
    "hevc.mkv": ("hevc", "yuv420p", 25),
    "vp9.webm": ("libvpx-vp9", "yuv420p", 30),
    "photo.avi": ("mjpeg", "yuvj420p", 15),
    "old.mpg": ("mpeg2video", "yuv420p", 25),
    "broadcast.ts": ("mpeg2video", "yuv420p", 25),
    "film.mkv": ("ffv1", "yuv420p", Fraction(24000, 1001)),
    "edit.mov": ("prores_ks", "yuv422p10le", 24),
    "alpha.mov": ("qtrle", "argb", 12),
    "gray.mkv": ("ffv1", "gray", 24),
    "anim.gif": ("gif", "rgb8", 10),
}


def encode(path: Path, codec: str, pixels: str, frames: list[np.ndarray], rate: Fraction | int, **more: object) -> Path:
    """A video file; `times` in milliseconds make its rate vary, `squeeze` is its pixels' width over their height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if "squeeze" in more:
            stream.codec_context.sample_aspect_ratio = more["squeeze"]
        if "times" in more:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixel_rows in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixel_rows, format="rgb24")
            if "times" in more:
                frame.pts, frame.time_base = more["times"][number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", KINDS)
def test_files_of_every_usual_kind_are_read_frame_by_frame(tmp_path, name):
    codec, pixels, rate = KINDS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {codec}")
    path = encode(tmp_path / name, codec, pixels, counting(40), rate)
    footage = look(path)
    assert (footage.width, footage.height, footage.num_frames, len(footage.scenes)) == (60, 40, 40, 1)
    assert footage.fps == pytest.approx(float(rate), rel=0.01)
    for first in (0, 28):
        shown = np.diff(read_clip(path, first / float(rate), 9, float(rate), 32, 32).mean(axis=(1, 2, 3)))
        assert shown.min() > 2, "each frame once, in order"
        assert shown.max() < 9


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write a display matrix into the header of an mp4, as a phone that was held upright does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    assert int.from_bytes(content[place : place + 4], "big") == 1 << 16, "the identity was there"
    content[place : place + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(("angle", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_phones_video_is_shown_upright(tmp_path, angle, corner):
    """Clockwise by the angle: the bright corner at the top left goes to the top right, and so on."""
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48] = 255
    one = 1 << 16
    a, b = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[angle]
    path = turned(write_video(tmp_path / "a.mp4", [frame] * 4, 12), (a, b, 0, -b, a, 0, 0, 0, 1 << 30))
    footage = look(path)
    size = (64, 96) if angle % 180 else (96, 64)
    assert (footage.width, footage.height) == size
    quarter = read_clip(path, 0, 1, 12, *size)[0].astype(int)
    corners = {(y, x): quarter[y * 4 + 2 * (y < 0), x * 4 + 2 * (x < 0)].mean() for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.__getitem__) == corner


def test_pixels_that_are_not_square_are_stretched_as_players_do(tmp_path):
    path = encode(tmp_path / "a.mp4", "h264", "yuv420p", counting(4, 48, 48), 12, squeeze=Fraction(2, 1))
    assert (look(path).width, look(path).height) == (96, 48)


@pytest.mark.parametrize("begin", [0, 5000])
def test_a_varying_rate_is_read_by_time_wherever_the_file_begins(tmp_path, begin):
    times = [begin + t for t in (0, 100, 200, 1200, 1300, 1400, 1500)]
    path = encode(tmp_path / "a.mkv", "ffv1", "yuv420p", counting(7), 10, times=times)
    assert numbers(read_clip(path, 0, 15, 10, 32, 32)) == [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize(("width", "height"), [(61, 47), (33, 17), (16, 16), (400, 16), (1280, 720)])
def test_any_size_of_at_least_16_pixels_is_scaled_and_cut(tmp_path, width, height):
    path = encode(tmp_path / "a.mkv", "ffv1", "yuv444p", counting(6, height, width), 12)
    assert (look(path).width, look(path).height) == (width, height)
    clip = read_clip(path, 0, 5, 12, 48, 32)
    assert clip.shape == (5, 32, 48, 3)
    assert numbers(clip) == [0, 1, 2, 3, 4]


def test_a_video_of_one_frame_is_an_image_and_too_short_for_clips(tmp_path):
    write_video(tmp_path / "one.mp4", counting(1), 25)
    (clip,) = list_clips(tmp_path, SIZES).clips
    assert str(clip.size) == "32x32x1"
    with pytest.raises(ValueError, match=r"one.mp4: no scene lasts 0.75 s \(9 frames at 12 fps\)"):
        list_clips(tmp_path, SIZES[:1])


def test_stills_and_videos_are_found_together(tmp_path):
    write_video(tmp_path / "walk.mp4", counting(24), 12)
    Image.fromarray(counting(3)[2]).save(tmp_path / "still.png")
    (tmp_path / "notes.pdf").write_bytes(b"nothing to train on")
    listing = list_clips(tmp_path, SIZES)
    assert {clip.file: str(clip.size) for clip in listing.clips} == {"walk.mp4": "48x32x9", "still.png": "32x32x1"}
    assert listing.skipped == (("notes.pdf", "files of the type .pdf are not read here"),)


def test_captions_in_other_encodings_and_scripts_are_read(tmp_path):
    write_video(tmp_path / "a.mp4", counting(12), 12)
    (tmp_path / "a.txt").write_bytes("\ufeff一只白色的兔子\r\nein Häschen\r\n".encode())
    (clip,) = list_clips(tmp_path, SIZES[:1]).clips
    assert clip.captions == ("一只白色的兔子", "ein Häschen")
    (tmp_path / "a.txt").write_text("\n  \n", encoding="utf-8")
    assert list_clips(tmp_path, SIZES[:1]).uncaptioned == 1


# -- a cache that something happened to --------------------------------------------------------------------------------


def test_a_damaged_shard_is_made_anew_with_a_notice(folder, tmp_path):
    torch.manual_seed(0)
    vae, clips = VideoVAE(PRESETS["test"]), list_clips(folder, SIZES).clips
    cache_folder(tmp_path, folder, clips, vae, encoder)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damaged, *others = sorted(tmp_path.iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in others}
    for content in (whole[damaged.name][: len(whole[damaged.name]) // 2], b""):
        damaged.write_bytes(content)
        (said,) = cache_folder(tmp_path, folder, clips, vae, encoder)
        assert f"{damaged.name} was damaged and is made anew" in said
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    assert {path: path.stat().st_mtime_ns for path in others} == stamps


def test_a_stopped_cache_continues_after_its_last_shard(folder, tmp_path, monkeypatch):
    torch.manual_seed(0)
    vae, clips = VideoVAE(PRESETS["test"]), list_clips(folder, SIZES).clips
    monkeypatch.setattr("comfyui_spacetime.models.clips.encode.SHARD", 2)

    def stop(done: int, _total: int) -> None:
        if done >= 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cache_folder(tmp_path, folder, clips, vae, encoder, stop)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert before
    seen: list[int] = []
    cache_folder(tmp_path, folder, clips, vae, encoder, lambda done, _: seen.append(done))
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert before.items() <= after.items()
    assert len(seen) == len(clips) - 2 * len(before)


def test_a_changed_file_or_caption_makes_the_cache_anew(folder, tmp_path):
    copy = tmp_path / "clips"
    shutil.copytree(folder, copy)
    torch.manual_seed(0)
    vae = VideoVAE(PRESETS["test"])

    def build() -> set[str]:
        cache_folder(tmp_path / "cache", copy, list_clips(copy, SIZES).clips, vae, encoder)
        return {path.name for path in (tmp_path / "cache").iterdir()}

    first = build()
    assert build() == first
    (copy / "walk.txt").write_text("someone runs", encoding="utf-8")
    second = build()
    assert second != first
    assert ["someone runs"] in LatentCache(tmp_path / "cache").captions["48x32x9"]
    os.utime(copy / "red_ball" / "a.mp4", (1, 1))
    assert build() != second
