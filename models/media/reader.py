"""The one reader: frames of any file of footage as a player shows them, in order of time, at an even rate.

Turned and mirrored as the file says, with square pixels, in the file's range and matrix, of 8 bits or more, what is
transparent on black, high dynamic range tone-mapped (hdr.py), and at the rate that `fps` tells: a file of varying rate
repeats frames where they stand longer. Frames come as a stream; what was wrong with a file is known when it ends.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .colour import Pixels, Shown, as_bytes, as_floats
from .container import Source, VideoFile
from .grid import on_grid
from .kinds import IMAGES
from .stills import NO_PICTURE, PictureFile

File = VideoFile | PictureFile


def open_file(source: Source, *, start: float = 0.0, duration: float = 0.0, precise: bool = False) -> File:
    """A video or a picture. ValueError, one sentence, when it is neither. See VideoFile for the rest."""
    picture = not isinstance(source, io.BytesIO) and Path(source).suffix.lower() in IMAGES
    if not picture:
        return VideoFile(source, start=start, duration=duration, precise=precise)
    try:
        return PictureFile(source)
    except ValueError as error:
        if str(error) != NO_PICTURE:
            raise
    try:
        found = VideoFile(source, precise=precise)  # a kind that Pillow does not know, or a film under another name
    except ValueError as error:
        raise ValueError(NO_PICTURE) from error
    if _tiled(source):
        raise ValueError("its picture is made of tiles: install pillow-heif, or save it as JPEG")
    return found


def _tiled(source: Source) -> bool:
    """Phones store HEIC pictures in tiles, of which PyAV sees each as a video of its own."""
    from .container import opened

    with opened(source) as container:
        return len(container.streams.video) > 1


def shown(file: File) -> Iterator[Shown]:
    """The pictures of a file, one for each moment i / fps."""
    step = 1 / float(file.fps)
    whole = ((time, max(end, time + step), picture) for time, end, picture in file.frames())
    return on_grid(whole, float(file.fps), 0.5 * step)


def images(file: File, per_piece: int) -> Iterator[Tensor]:
    """The frames of a file in pieces (f, H, W, 3) of floats in 0..1; only one piece is held. ValueError without any."""
    held: list[Pixels] = []
    before: tuple[Shown, Pixels] | None = None
    found = False
    for picture in shown(file):
        if before is None or before[0] is not picture:
            before = picture, as_floats(picture.pixels())
        held.append(before[1])
        if len(held) == per_piece:
            yield torch.from_numpy(np.stack(held))
            held, found = [], True
    if held:
        yield torch.from_numpy(np.stack(held))
    elif not found:
        raise ValueError(file.damage or "it holds no frames")


def still(path: Path) -> Pixels:
    """A picture file as it is shown, uint8 (H, W, 3); of one that moves the first frame."""
    _, _, picture = next(iter(open_file(path).frames()))
    return as_bytes(picture.pixels())


def remarks(file: File) -> list[str]:
    """What people should know of a file that has been read: how its colours were made, what was wrong with it."""
    return [*file.remarks, *([file.damage] if file.damage else [])]
