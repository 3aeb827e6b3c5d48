"""The guide's tables of files are true: every row is tried with a file made here, and none is left untried."""

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_spacetime.models.media import hdr
from comfyui_spacetime.models.media.kinds import IMAGES, VIDEOS
from comfyui_spacetime.models.media.reader import images, open_file, remarks
from comfyui_spacetime.tests.media_files import corners, counting, encode, numbers, solid, tone, turned

PAGE = Path(__file__).resolve().parents[2] / "web" / "docs" / "guides" / "files.md"
TEXT = PAGE.read_text(encoding="utf-8")
CODECS = {
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".mpg": ("mpeg2video", "yuv420p"),
    ".mpeg": ("mpeg2video", "yuv420p"),
    ".vob": ("mpeg2video", "yuv420p"),
    ".wmv": ("wmv2", "yuv420p"),
    ".asf": ("wmv2", "yuv420p"),
    ".flv": ("flv1", "yuv420p"),
    ".ogv": ("libtheora", "yuv420p"),
    ".mxf": ("mpeg2video", "yuv420p"),
    ".gif": ("gif", "rgb8"),
    ".avi": ("mjpeg", "yuvj420p"),
    ".3gp": ("mpeg4", "yuv420p"),
    ".3g2": ("mpeg4", "yuv420p"),
}
MUXERS = {".qt": "mov", ".mts": "mpegts", ".m2ts": "mpegts", ".m4v": "mp4", ".vob": "vob"}
PILLOW = {".jfif": "JPEG", ".jpe": "JPEG", ".heic": "AVIF", ".heif": "AVIF", ".apng": "PNG"}

Frames = np.ndarray


def read(path: Path) -> tuple[Frames, list[str]]:
    file = open_file(path)
    pixels = torch.cat(list(images(file, 8))).numpy()
    return pixels, remarks(file)


def rows(section: str, first: str) -> list[list[str]]:
    """The cells of a table's rows, but for its head."""
    part = TEXT.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    assert lines[0][0] == first
    return lines[1:]


def test_the_page_lists_the_types_that_are_read():
    listed = {name: set(re.findall(r"`(\.\w+)`", endings)) for name, endings in rows("Types", "kind")}
    assert listed == {"video": set(VIDEOS), "picture": set(IMAGES)}


@pytest.mark.parametrize("ending", sorted(VIDEOS))
def test_every_type_of_video_is_read(tmp_path, ending):
    codec, pixels = CODECS.get(ending, ("h264", "yuv420p"))
    path = tmp_path / f"a{ending}"
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {codec}")
    made = encode(path, counting(10, 96, 128), 25, codec=codec, pixels=pixels, muxer=MUXERS.get(ending))
    found, _ = read(made)
    assert found.shape[1:3] == (96, 128)
    if ending == ".flv":  # its clock counts milliseconds: the last frame's length is not told
        assert len(found) in (9, 10)
    else:
        assert len(found) == 10
    assert (np.diff(found.mean(axis=(1, 2, 3))) > 0).all()


@pytest.mark.parametrize("ending", sorted(IMAGES))
def test_every_type_of_picture_is_read(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    Image.fromarray(corners()).save(path, PILLOW.get(ending), quality=95)
    found, _ = read(path)
    np.testing.assert_allclose(found[0, 16, 24] * 255, (220, 0, 0), atol=12)
    assert found.shape == (1, 64, 96, 3)


def _turned(folder: Path) -> Path:
    return turned(encode(folder / "a.mp4", [corners()] * 3, codec="h264"), 0, 1, -1, 0)


def _hdr(number: int) -> Callable[[Path], Path]:
    tags = {"color_trc": number, "color_primaries": 9, "colorspace": 9, "color_range": 1}

    def make(folder: Path) -> Path:
        frames = [solid("yuv420p10le", (502, 512, 512), **tags) for _ in range(3)]
        return encode(folder / "a.mkv", frames, pixels="yuv420p10le", tags=tags)

    return make


def _tagged(folder: Path) -> Path:
    tags = {"colorspace": 1, "color_range": 2}
    return encode(folder / "a.mkv", [solid("yuv444p", (128, 90, 160), **tags)] * 2, pixels="yuv444p", tags=tags)


def _untagged(folder: Path) -> Path:
    return encode(folder / "a.mkv", [solid("yuv444p", (128, 90, 160))] * 2, pixels="yuv444p")


def _deep(folder: Path) -> Path:
    return encode(folder / "a.mkv", [solid("yuv444p10le", (i, 512, 512)) for i in (400, 401)], pixels="yuv444p10le")


def _transparent(folder: Path) -> Path:
    hidden = np.full((32, 32, 4), 200, np.uint8)
    hidden[:, :16, 3] = 0
    Image.fromarray(hidden).save(folder / "a.png")
    return folder / "a.png"


def _pages(folder: Path) -> Path:
    first, second = (Image.fromarray(frame) for frame in counting(2))
    first.save(folder / "a.tif", save_all=True, append_images=[second])
    return folder / "a.tif"


def _growing(folder: Path) -> Path:
    """Two MPEG streams of different size, one after the other."""
    parts = [
        encode(folder / f"{n}.mpg", counting(10, *size), 25, codec="mpeg1video", muxer="mpeg1video")
        for n, size in enumerate(((48, 64), (96, 128)))
    ]
    (folder / "a.mpg").write_bytes(b"".join(part.read_bytes() for part in parts))
    return folder / "a.mpg"


def _cut(folder: Path) -> Path:
    noise = list(np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8))
    path = encode(folder / "a.mp4", noise, 10, codec="h264", container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _sound(folder: Path) -> Path:
    with av.open(str(folder / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="stereo")
        container.mux(stream.encode(tone(1, 16000)))
        container.mux(stream.encode(None))
    return folder / "a.mp4"


def _flat(value: tuple[float, ...]) -> Callable[[Frames], None]:
    return lambda found: np.testing.assert_allclose(found[0, 16, 16], value, atol=0.012)


def _light(name: str) -> Callable[[Frames], None]:
    return _flat(tuple(hdr.to_sdr(np.full((1, 1, 3), 0.5, np.float32), name)[0, 0]))


def _is(expected: object, what: Callable[[Frames], object]) -> Callable[[Frames], None]:
    def check(found: Frames) -> None:
        assert what(found) == expected

    return check


UNEVEN = [0, 100, 200, 600, 700]
TRIED: dict[str, tuple[Callable[[Path], Path], Callable[[Frames], None]]] = {
    "is turned or mirrored": (_turned, _is((96, 64), lambda found: found.shape[1:3])),
    "has pixels that are not square": (
        lambda folder: encode(folder / "a.mp4", counting(2, 48, 48), codec="h264", squeeze=Fraction(2)),
        _is((48, 96), lambda found: found.shape[1:3]),
    ),
    "has an even rate": (lambda folder: encode(folder / "a.mkv", counting(9)), _is(list(range(9)), numbers)),
    "has a varying rate": (
        lambda folder: encode(folder / "a.mkv", counting(5), 10, times=UNEVEN),
        _is([0, 1, 2, 2, 2, 2, 3, 4], numbers),
    ),
    "begins late by its clock": (
        lambda folder: encode(folder / "a.mkv", counting(3), 10, times=[7000, 7100, 7200]),
        _is([0, 1, 2], numbers),
    ),
    "names its matrix and range": (_tagged, _flat((0.6996, 0.4709, 0.2253))),
    "names no matrix": (_untagged, _flat((0.7117, 0.4677, 0.2108))),
    "has more than 8 bits": (_deep, lambda found: np.testing.assert_allclose(np.ptp(found), 1 / 876, rtol=0.2)),
    "has high dynamic range (PQ)": (_hdr(16), _light("PQ")),
    "has high dynamic range (HLG)": (_hdr(18), _light("HLG")),
    "is transparent": (_transparent, _is(0, lambda found: found[0, :, :16].max())),
    "has several pages": (_pages, _is([0], numbers)),
    "changes its size on the way": (_growing, _is((48, 64), lambda found: found.shape[1:3])),
    "is damaged or cut off": (_cut, lambda found: np.testing.assert_array_less(len(found), 36)),
    "is no video": (_written("a.mp4", b"hello"), lambda _: None),
    "is a playlist": (_written("a.mp4", b"#EXTM3U\n#EXTINF:2,\nb.mp4\n"), lambda _: None),
    "holds only sound": (_sound, lambda _: None),
}


@pytest.mark.parametrize("row", rows("What becomes of it", "a file that"), ids=lambda row: row[0])
def test_what_the_page_says_of_a_file_is_what_becomes_of_it(tmp_path, row):
    name, becomes, said = row
    make, check = next(tried for start, tried in TRIED.items() if name.startswith(start))
    path = make(tmp_path)
    if becomes.startswith("refused"):
        with pytest.raises(ValueError, match=re.escape(said.strip("`"))):
            read(path)
        return
    found, told = read(path)
    check(found)
    assert told == [] if said == "nothing" else any(said.strip("`") in text for text in told), told


def test_each_row_is_on_the_page():
    names = [row[0] for row in rows("What becomes of it", "a file that")]
    assert len(names) == len(TRIED)
