"""Frames beside each other in one small picture, for the editor to cut apart again."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

SMALLEST, LARGEST = 64, 128  # pixels of a tile's longer side
BLOCK = 8  # JPEG's: tiles of whole blocks do not run into each other
WIDEST = 65500  # pixels of a JPEG


class Sprite(NamedTuple):
    """A JPEG in base64, of so many columns and rows of tiles."""

    jpeg: str
    columns: int
    rows: int
    width: int
    height: int


def tile_size(height: int, width: int) -> tuple[int, int]:
    """The size (height, width) in which a frame is shown, in whole blocks; about its own shape."""
    longer = max(height, width)
    scale = min(LARGEST, max(SMALLEST, longer)) / longer
    tall, wide = (max(BLOCK, round(side * scale / BLOCK) * BLOCK) for side in (height, width))
    return tall, wide


def sprite(frames: Tensor, *, quality: int = 80) -> Sprite:
    """Rows of frames (R, F, H, W, 3), uint8, as one picture. ValueError for more frames than a picture can hold."""
    rows, columns, height, width, _ = frames.shape
    tall, wide = tile_size(height, width)
    if columns * wide > WIDEST or rows * tall > WIDEST:
        raise ValueError(f"{rows} rows of {columns} frames are more than one picture can hold")
    resample = Image.Resampling.NEAREST if tall > height else Image.Resampling.BOX
    whole = Image.new("RGB", (columns * wide, rows * tall))
    for row in range(rows):
        for column in range(columns):
            tile = Image.fromarray(frames[row, column].numpy()).resize((wide, tall), resample)
            whole.paste(tile, (column * wide, row * tall))
    data = io.BytesIO()
    whole.save(data, "JPEG", quality=quality, subsampling=0)
    return Sprite(base64.b64encode(data.getvalue()).decode(), columns, rows, wide, tall)


def as_bytes(frames: Tensor) -> Tensor:
    """Numbers in 0..1 as 0..255, where they lie."""
    return (frames.clamp(0, 1) * 255).to(torch.uint8)
