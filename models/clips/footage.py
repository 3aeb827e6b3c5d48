"""Real video files: where their scenes are cut, and clips of any size and frame rate out of them (through PyAV).

A cut is where a frame's thumbnail (32 x 18) differs from the one before by more than CUT in the mean absolute
difference of its colours (0..1), and by more than CUT_RATIO times the median difference of the frames around it, so
that fast motion and flicker are not taken for cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif"})
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
# a playlist dressed up as a video could name other files, so only containers that hold their own pictures are opened
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,gif"
CUT = 0.1
CUT_RATIO = 4.0
AROUND = 8  # frames on each side that the median looks at
THUMBNAIL = (32, 18)
SMALLEST = 16  # pixels

Frames = NDArray[np.uint8]  # (F, H, W, 3)


@dataclass(frozen=True)
class Scene:
    """A stretch of a file without a cut, in seconds from its first frame."""

    start: float
    end: float


@dataclass(frozen=True)
class Footage:
    """What one file holds. width and height are as shown: rotated, with square pixels."""

    width: int
    height: int
    fps: float
    num_frames: int
    scenes: tuple[Scene, ...]
    damage: str = ""  # what was wrong with the rest of the file, if it could not be read to its end


def look(path: Path) -> Footage:
    """Read a video or picture once and find its scenes. ValueError, in one sentence, when nothing can be read."""
    if path.suffix.lower() in IMAGES:
        height, width = read_image(path).shape[:2]
        return Footage(width, height, 1.0, 1, (Scene(0.0, 1.0),))
    times: list[float] = []
    changes: list[float] = []
    before: NDArray[np.int16] | None = None
    damage, size = "", (0, 0)
    with opened(path) as container:
        scaler = Scaler()
        stream = container.streams.video[0]
        nominal = float(stream.average_rate or 0) or 25.0
        try:
            for time, frame in timed(container, nominal):
                size = size if before is not None else shown_size(frame, stream)
                thumbnail = scaler(frame, *THUMBNAIL).astype(np.int16)
                changes.append(0.0 if before is None else float(np.abs(thumbnail - before).mean()) / 255)
                times.append(time)
                before = thumbnail
        except unreadable() as error:
            damage = f"damaged after {times[-1] if times else 0:.1f} s ({reason(error)})"
    if not times:
        raise ValueError(damage or "it holds no frames")
    if min(size) < SMALLEST:
        raise ValueError(f"its pictures are {size[0]} x {size[1]}; at least {SMALLEST} x {SMALLEST} are needed")
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / nominal
    edges = [0, *cuts(changes), len(times)]
    ends = [*times, times[-1] + step]
    scenes = tuple(Scene(round(ends[a], 4), round(ends[b], 4)) for a, b in pairwise(edges))
    return Footage(*size, round(1 / step, 3) if step else nominal, len(times), scenes, damage)


def cuts(changes: list[float]) -> list[int]:
    """Numbers of the frames that begin a new scene, from each frame's change against the one before."""
    found = []
    for i in range(1, len(changes)):
        around = changes[max(1, i - AROUND) : i] + changes[i + 1 : i + 1 + AROUND]
        if changes[i] > CUT and changes[i] > CUT_RATIO * (median(around) if around else 0.0):
            found.append(i)
    return found


def read_clip(path: Path, start: float, num_frames: int, fps: float, width: int, height: int) -> Frames:
    """num_frames frames from `start` on at this fps, scaled to cover width x height and cut to it from the middle.

    Each is the file's frame that is shown at that moment, so other frame rates repeat or leave out frames.
    ValueError when the file ends before.
    """
    if path.suffix.lower() in IMAGES:
        return np.repeat(fit(read_image(path), width, height)[None], num_frames, axis=0)
    wanted = [start + i / fps + 1e-3 for i in range(num_frames)]
    frames: list[Frames] = []
    latest: VideoFrame | None = None
    try:
        with opened(path) as container:
            scaler = Scaler()
            stream = container.streams.video[0]
            offset = begin(stream)
            if start > 2:  # to the key frame before; a file without an index is read from its start
                with suppressed():
                    container.seek(max(0, int((start + offset - 0.5) * 1_000_000)))
            for time, frame in timed(container, float(stream.average_rate or 25)):
                while len(frames) < num_frames and latest is not None and wanted[len(frames)] < time:
                    frames.append(picture(latest, stream, scaler, width, height))
                latest = frame
                if len(frames) == num_frames:
                    break
            while len(frames) < num_frames and latest is not None:  # the file's last frame is shown to its end
                if wanted[len(frames)] > time + 2 / fps + 2 / float(stream.average_rate or 25):
                    break
                frames.append(picture(latest, stream, scaler, width, height))
    except unreadable() as error:
        raise ValueError(f"it cannot be read at {start:.1f} s ({reason(error)})") from error
    if len(frames) < num_frames:
        raise ValueError(f"it ends before {wanted[-1]:.1f} s")
    return np.stack(frames)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The file as a PyAV container with a video stream. ValueError when it is none."""
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "reading video files needs the package av, which ComfyUI brings along: pip install av"
        ) from error
    try:
        container = av.open(str(path), options={"format_whitelist": CONTAINERS})
    except unreadable() as error:
        raise ValueError(f"it is no video that can be read ({reason(error)})") from error
    with container:
        if not container.streams.video:
            raise ValueError("it holds no video, only sound")
        container.streams.video[0].thread_type = "AUTO"
        yield container


def unreadable() -> tuple[type[Exception], ...]:
    """What PyAV raises for broken files."""
    import av

    return (av.error.FFmpegError, OSError, EOFError)


@contextmanager
def suppressed() -> Iterator[None]:
    """Go on where a file cannot be searched."""
    try:
        yield
    except unreadable():
        return


def reason(error: Exception) -> str:
    """PyAV's message without the path, which the reader knows already."""
    return str(getattr(error, "strerror", None) or error)


def begin(stream: VideoStream) -> float:
    """The time of a stream's first frame in its file."""
    return float((stream.start_time or 0) * (stream.time_base or 0))


def timed(container: InputContainer, nominal: float) -> Iterator[tuple[float, VideoFrame]]:
    """The frames with their times in seconds from the first frame; files without times are counted out."""
    stream = container.streams.video[0]
    offset = begin(stream)
    for number, frame in enumerate(container.decode(stream)):
        yield (number / nominal if frame.time is None else frame.time - offset), frame


def shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height as a player shows them."""
    ratio = float(stream.sample_aspect_ratio or 1) or 1.0
    width, height = round(frame.width * ratio), frame.height
    return (height, width) if getattr(frame, "rotation", 0) % 180 else (width, height)


def picture(frame: VideoFrame, stream: VideoStream, scaler: Scaler, width: int, height: int) -> Frames:
    """A decoded frame as it is shown, scaled and cut to width x height: (H, W, 3)."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    shown = shown_size(frame, stream)
    scale = max(width / shown[0], height / shown[1])
    size = [max(target, round(side * scale)) for target, side in zip((width, height), shown, strict=True)]
    if turns % 2:
        size.reverse()
    return cut_middle(np.rot90(scaler(frame, *size), turns), width, height)


class Scaler:
    """Scales decoded frames. One per file: setting up a scaler takes a hundred times longer than using it."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformat = VideoReformatter().reformat
        self._one_thread = {"threads": 1}  # for small pictures threads cost more than they bring

    def __call__(self, frame: VideoFrame, width: int, height: int) -> Frames:
        try:
            scaled = self._reformat(frame, width, height, "rgb24", interpolation="AREA", **self._one_thread)
        except TypeError:  # before PyAV 15
            self._one_thread = {}
            scaled = self._reformat(frame, width, height, "rgb24", interpolation="AREA")
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)


def fit(pixels: Frames, width: int, height: int) -> Frames:
    """A picture (H, W, 3) scaled to cover width x height and cut to it from the middle."""
    from PIL import Image

    scale = max(width / pixels.shape[1], height / pixels.shape[0])
    size = max(width, round(pixels.shape[1] * scale)), max(height, round(pixels.shape[0] * scale))
    return cut_middle(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)), width, height)


def cut_middle(pixels: Frames, width: int, height: int) -> Frames:
    """The middle of a picture (H, W, 3)."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def read_image(path: Path) -> Frames:
    """A picture file as it is shown: (H, W, 3). ValueError when it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("it is no picture that can be read") from error
