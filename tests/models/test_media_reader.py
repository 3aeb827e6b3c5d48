"""The one reader: frames as a player shows them, against ffmpeg's own filters, Pillow, and written-out formulas."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from comfyui_spacetime.models.media import hdr
from comfyui_spacetime.models.media.colour import Painter
from comfyui_spacetime.models.media.reader import images, open_file, remarks, shown
from comfyui_spacetime.tests.media_files import corners, counting, encode, numbers, solid, turned


def read(path: Path, per_piece: int = 8, **options: object) -> tuple[np.ndarray, list[str], float]:
    file = open_file(path, **options)
    pixels = torch.cat(list(images(file, per_piece))).numpy()
    assert pixels.dtype == np.float32
    assert pixels.shape[1:3] == (file.height, file.width)
    return pixels, remarks(file), float(file.fps)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize(
    "matrix",
    [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)],
)
def test_every_display_matrix_is_followed(tmp_path, matrix, pixels):
    path = turned(encode(tmp_path / "a.mp4", [corners()] * 3, codec="h264", pixels=pixels), *matrix)
    (frame, *_), _, _ = read(path)
    a, b, c, d = matrix
    assert frame.shape == ((96, 64, 3) if b else (64, 96, 3))
    for y, x, colour in ((-1, -1, (1, 0, 0)), (-1, 1, (0, 1, 0)), (1, -1, (0, 0, 1)), (1, 1, (1, 1, 1))):
        to_x, to_y = a * x + c * y, b * x + d * y  # the corner goes where the matrix says
        found = frame[12 if to_y < 0 else -12, 12 if to_x < 0 else -12]
        np.testing.assert_allclose(found, np.array(colour) * 220 / 255, atol=0.05)


@pytest.mark.parametrize(("squeeze", "size"), [(Fraction(2), (96, 48)), (Fraction(1, 2), (24, 48)), (None, (48, 48))])
def test_pixels_are_made_square(tmp_path, squeeze, size):
    more = {"squeeze": squeeze} if squeeze else {}
    frames, _, _ = read(encode(tmp_path / "a.mp4", [corners(48, 48)] * 2, codec="h264", **more))
    assert frames.shape[1:3] == size[::-1]
    assert frames[0, 8, 4].argmax() == 0
    assert frames[0, 8, -4].argmax() == 1


def even_by_ffmpeg(path: Path, rate: float) -> list[np.ndarray]:
    """The frames that ffmpeg's filter `fps` makes of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source, fps, end = graph.add_buffer(template=stream), graph.add("fps", str(rate)), graph.add("buffersink")
        source.link_to(fps)
        fps.link_to(end)
        graph.configure()
        found = []
        for frame in [*container.decode(stream), None]:
            source.push(frame)
            with suppress(av.error.BlockingIOError, av.error.EOFError):
                while True:
                    found.append(end.pull().to_ndarray(format="rgb24"))
    return found


@pytest.mark.parametrize("begin", [0, 5000])
@pytest.mark.parametrize(
    "times",
    [
        [0, 42, 83, 125, 167, 208, 250, 583, 917, 1250, 1583],  # 24 a second, then 3
        [0, 40, 80, 120, 160, 1000, 1040, 1080, 1120],  # a frame that stands
        [0, 33, 67, 105, 130, 167, 200, 233],  # jitter
        [0, 1, 2, 41, 83, 125, 167, 208, 250, 292],  # three in one place: the last is seen
    ],
)
def test_a_varying_rate_becomes_even_as_ffmpegs_fps_filter_makes_it(tmp_path, times, begin):
    path = encode(tmp_path / "a.mkv", counting(len(times)), 24, times=[begin + time for time in times])
    found, _, rate = read(path)
    expected = even_by_ffmpeg(path, rate)
    assert rate in (24, 25, 30)
    assert numbers(found)[: len(expected)] == numbers(np.stack(expected))[: len(found)]
    assert len(found) == pytest.approx(len(expected), abs=1)  # how long the last one stands, no file tells


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25, 2), 30, 60, 8, 1])
@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
def test_an_even_rate_gives_each_frame_once(tmp_path, rate, name):
    path = encode(tmp_path / name, counting(20), rate, codec="h264" if name == "a.mp4" else "ffv1")
    found, said, fps = read(path, per_piece=7)
    assert (numbers(found), said) == (list(range(20)), [])
    assert fps == pytest.approx(float(rate), rel=1e-3)


def test_a_clock_that_is_set_anew_loses_and_adds_nothing(tmp_path):
    times = [0, 100, 200, 300, 90_000_000, 90_000_100, 90_000_200, 90_000_300]
    assert numbers(read(encode(tmp_path / "a.mkv", counting(8), 10, times=times))[0]) == list(range(8))


MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593), 2: (0.299, 0.114)}


def rgb_of(y: float, u: float, v: float, matrix: int, full: bool, bits: int) -> np.ndarray:
    """BT.601, BT.709 and BT.2020: Y'CbCr to R'G'B', limited range as in BT.709 section 4."""
    red, blue = MATRICES[matrix]
    unit = 2 ** (bits - 8)
    luma = y / (2**bits - 1) if full else (y / unit - 16) / 219
    cb, cr = ((c - 2 ** (bits - 1)) / (2**bits - 1) if full else (c / unit - 128) / 224 for c in (u, v))
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    return np.clip([r, (luma - red * r - blue * b) / (1 - red - blue), b], 0, 1)


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("pixels", "bits"), [("yuv420p", 8), ("yuv444p", 8), ("yuv420p10le", 10), ("yuv422p12le", 12)])
def test_range_and_matrix_are_the_files(pixels, bits, matrix, colour_range, precise):
    unit = 2 ** (bits - 8)
    values = (140 * unit, 100 * unit, 160 * unit)
    frame = solid(pixels, values, colorspace=matrix, color_range=colour_range)
    found = Painter(precise)(frame, 32, 32)
    found = found / (255 if found.dtype == np.uint8 else 1)
    np.testing.assert_allclose(found[16, 16], rgb_of(*values, matrix, colour_range == 2, bits), atol=2.6 / 255)


def test_ten_bits_are_not_cut_to_eight(tmp_path):
    frames = [solid("yuv444p10le", (400 + step, 512, 512)) for step in range(4)]
    found, _, _ = read(encode(tmp_path / "a.mkv", frames, pixels="yuv444p10le"))
    steps = np.diff(found.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(steps, 1 / 876, rtol=0.2)


def test_pq_is_tone_mapped_as_bt2390_says():
    """Black, the knee and the peak from the equations; hues stay; the curve only rises."""
    white = float(hdr.light_to_pq(np.array(203.0)))
    assert white == pytest.approx(0.5807, abs=1e-4)  # BT.2408, table 1: 58 %
    ramp = np.linspace(0, 1, 257, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    shown_ramp = hdr.to_sdr(ramp, hdr.PQ)[0]
    assert np.ptp(shown_ramp, axis=-1).max() < 2e-3
    assert (np.diff(shown_ramp[:, 1]) >= -1e-6).all()
    assert shown_ramp[0].max() == 0
    peak = float(hdr.light_to_pq(np.array(1000.0)))
    gray = hdr.to_sdr(np.full((1, 1, 3), peak, np.float32), hdr.PQ)
    assert gray.min() == pytest.approx(1, abs=2e-3)
    below = hdr.to_sdr(np.full((1, 1, 3), 0.4, np.float32), hdr.PQ)  # below the knee light is kept
    assert below[0, 0, 1] == pytest.approx((float(hdr.pq_to_light(np.array(0.4))) / 203) ** (1 / 2.4), abs=2e-3)
    maximum, knee = white / peak, 1.5 * white / peak - 0.5
    t = (maximum - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * maximum
    ) * peak
    mapped = (float(hdr.pq_to_light(np.array(spline))) / 203) ** (1 / 2.4)
    assert hdr.to_sdr(np.full((1, 1, 3), white, np.float32), hdr.PQ)[0, 0, 0] == pytest.approx(mapped, abs=2e-3)


def test_hlg_white_is_pq_white():
    """BT.2408: HDR reference white is 75 % of HLG and 58 % of PQ."""
    hlg = hdr.to_sdr(np.full((1, 1, 3), 0.75, np.float32), hdr.HLG)
    pq = hdr.to_sdr(np.full((1, 1, 3), 0.5807, np.float32), hdr.PQ)
    np.testing.assert_allclose(hlg, pq, atol=4e-3)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_an_hdr_file_is_shown_in_its_light_and_says_so(tmp_path, transfer, name):
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    frames = [solid("yuv420p10le", (round(64 + 876 * 0.5), 512, 512), **tags) for _ in range(3)]
    found, said, _ = read(encode(tmp_path / "a.mkv", frames, pixels="yuv420p10le", tags=tags))
    expected = hdr.to_sdr(np.full((1, 1, 3), 0.5, np.float32), name)
    np.testing.assert_allclose(found[0, 16, 16], expected[0, 0], atol=0.01)
    assert any(name in text and "BT.2390" in text for text in said)


def test_what_is_transparent_lies_on_black(tmp_path):
    hidden = np.full((32, 32, 4), 200, np.uint8)
    hidden[:, :16, 3] = 0
    hidden[:16, 16:, 3] = 128
    hidden[16:, 16:, 3] = 255
    Image.fromarray(hidden).save(tmp_path / "a.png")
    Image.fromarray(hidden).save(tmp_path / "a.webp", lossless=True)
    frames = [av.VideoFrame.from_ndarray(hidden, format="rgba").reformat(format="argb") for _ in range(3)]
    encode(tmp_path / "a.mov", frames, codec="qtrle", pixels="argb")
    for name in ("a.png", "a.webp", "a.mov"):
        found, said, _ = read(tmp_path / name)
        np.testing.assert_allclose(found[0, 24, 8], 0)
        np.testing.assert_allclose(found[0, 8, 24], 200 / 255 * 128 / 255, atol=0.005)
        np.testing.assert_allclose(found[0, 24, 24], 200 / 255, atol=0.002)
        assert said == ["what is transparent was laid on black"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_upright_as_pillow_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jfif"
    Image.fromarray(corners()).save(path, "JPEG", exif=exif, quality=95)
    (frame,), _, _ = read(path)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_allclose(frame, expected / np.float32(255), atol=1e-6)


def test_sixteen_bits_of_a_picture_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        (frame,), _, _ = read(tmp_path / name)
        np.testing.assert_allclose(frame[..., 1], ramp / np.float32(65535), atol=1e-4)


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.avif"])
def test_a_moving_picture_keeps_its_times(tmp_path, name):
    lengths = [100, 100, 300, 100, 200]
    first, *rest = (Image.fromarray(frame) for frame in counting(5))
    more = {"quality": 100} if name == "a.avif" else {} if name in ("a.gif", "a.png") else {"lossless": True}
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=lengths, loop=0, **more)
    found, _, fps = read(tmp_path / name)
    assert (fps, numbers(found)) == (10, [0, 1, 2, 2, 2, 3, 4, 4])


def test_only_the_first_of_many_pages_is_used_and_that_is_said(tmp_path):
    first, second = (Image.fromarray(frame) for frame in counting(2))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    found, said, _ = read(tmp_path / "a.tif")
    assert numbers(found) == [0]
    assert said == ["only the first of its 2 pages is used"]


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_a_damaged_end_is_said_and_only_whole_frames_count(tmp_path, kept):
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 96, 3), dtype=np.uint8)
    encode(tmp_path / "a.mp4", list(noise), 10, codec="h264", container={"movflags": "faststart"})
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: int(kept * len(whole))])
    found, said, _ = read(tmp_path / "a.mp4")
    assert 40 * kept - 12 < len(found) < 40 * kept + 5
    assert any("damaged" in text for text in said)
    assert not any("Errno" in text for text in said)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 5000, b"#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.wmv", "a.png", "a.heic", "a.m2ts", "a.gif"])
def test_what_is_no_video_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^it (is no|holds no)") as found:
        open_file(tmp_path / name)
    assert "Errno" not in str(found.value)
    assert "\n" not in str(found.value)


def test_a_long_video_is_never_held_as_a_whole(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mkv", counting(40) * 5, 24)
    painted = []
    monkeypatch.setattr(Painter, "__call__", lambda *_: painted.append(1) or np.zeros((40, 60, 3), np.uint8))
    pieces = images(open_file(path), 8)
    for number in range(1, 5):
        next(pieces)
        assert len(painted) == 8 * number


def test_a_frame_that_stands_is_made_once(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mkv", counting(4), 10, times=[0, 100, 2000, 2100])
    calls = []
    paint = Painter.__call__
    monkeypatch.setattr(Painter, "__call__", lambda *args: calls.append(1) or paint(*args))
    assert len(list(shown(open_file(path)))) == 22
    assert len(torch.cat(list(images(open_file(path), 4)))) == 22
    assert len(calls) == 4
