"""Real video files: where their scenes are cut, and clips of any size and frame rate out of them (read by ../media).

A cut is where a frame's thumbnail (32 x 18) differs from the one before by more than CUT in the mean absolute
difference of its colours (0..1), and by more than CUT_RATIO times the median difference of the frames around it, so
that fast motion and flicker are not taken for cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ..media.colour import Shown, as_bytes
from ..media.grid import on_grid
from ..media.reader import File, open_file

CUT = 0.1
CUT_RATIO = 4.0
AROUND = 8  # frames on each side that the median looks at
THUMBNAIL = (32, 18)
SMALLEST = 16  # pixels
EARLY = 1e-3  # seconds by which files round the times of their frames

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

    @property
    def seconds(self) -> float:
        """How long it lasts, from its first frame to the end of its last one."""
        return self.scenes[-1].end


def look(path: Path) -> Footage:
    """Read a video or picture once and find its scenes. ValueError, in one sentence, when nothing can be read."""
    file = open_file(path)
    if min(file.width, file.height) < SMALLEST:
        size = f"{file.width} x {file.height}"
        raise ValueError(f"its pictures are {size}; at least {SMALLEST} x {SMALLEST} are needed")
    times: list[float] = []
    changes: list[float] = []
    before: NDArray[np.int16] | None = None
    last = 0.0
    for time, end, picture in file.frames():
        thumbnail = as_bytes(picture.pixels(*THUMBNAIL)).astype(np.int16)
        changes.append(0.0 if before is None else float(np.abs(thumbnail - before).mean()) / 255)
        times.append(time)
        before, last = thumbnail, end
    if not times:
        raise ValueError(file.damage or "it holds no frames")
    edges = [0, *cuts(changes), len(times)]
    ends = [*times, last]
    scenes = tuple(Scene(round(ends[a], 4), round(ends[b], 4)) for a, b in pairwise(edges))
    return Footage(file.width, file.height, round(float(file.fps), 3), len(times), scenes, file.damage)


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
    file = open_file(path)
    if file.expected == 1 and file.fps == 1:  # a still lasts as long as one likes
        _, _, picture = next(iter(file.frames()))
        return np.repeat(covering(file, picture, width, height)[None], num_frames, axis=0)
    moments = ((time - start, end - start, picture) for time, end, picture in file.frames(since=start))
    frames: list[Frames] = []
    before: Shown | None = None
    for picture in islice(on_grid(moments, fps, EARLY), num_frames):
        frames.append(frames[-1] if picture is before else covering(file, picture, width, height))
        before = picture
    if len(frames) < num_frames:
        asked = f"it ends before {start + (num_frames - 1) / fps:.1f} s"
        raise ValueError(f"{asked}: {file.damage}" if file.damage else asked)
    return np.stack(frames)


def covering(file: File, picture: Shown, width: int, height: int) -> Frames:
    """A picture scaled to cover width x height and cut to it from the middle: (H, W, 3)."""
    scale = max(width / file.width, height / file.height)
    size = max(width, round(file.width * scale)), max(height, round(file.height * scale))
    return cut_middle(as_bytes(picture.pixels(*size)), width, height)


def cut_middle(pixels: Frames, width: int, height: int) -> Frames:
    """The middle of a picture (H, W, 3)."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
