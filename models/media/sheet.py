"""Several clips side by side in one that moves, each with a label: to compare them at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 4
STRIP = 18  # pixels of a label
FONT_SIZE = 12
BACKGROUND, INK = 24, 225
NARROWEST = 96  # a tile that a label fits on


def moving_sheet(clips: Sequence[Tensor], labels: Sequence[str]) -> Tensor:
    """Clips (F, H, W, 3) in 0..1 of one size, row by row, as frames (F, H', W', 3); each stands over its label.

    Clips that are narrower than a label are enlarged by whole numbers. ValueError for clips of different sizes.
    """
    if not clips or len(clips) != len(labels):
        raise ValueError(f"{len(clips)} clips and {len(labels)} labels: give each clip a label")
    if len({clip.shape for clip in clips}) != 1:
        raise ValueError(f"clips of {sorted({tuple(clip.shape) for clip in clips})} do not fit one sheet")
    columns = columns_of(len(clips))
    tiles = [_tile(clip, label) for clip, label in zip(clips, labels, strict=True)]
    tiles += [torch.full_like(tiles[0], BACKGROUND / 255)] * (-len(tiles) % columns)
    rows = [torch.cat(tiles[start : start + columns], dim=2) for start in range(0, len(tiles), columns)]
    return torch.cat(rows, dim=1)


def columns_of(count: int) -> int:
    """How many of so many clips stand in a row of a sheet."""
    return math.ceil(math.sqrt(count))


def _tile(clip: Tensor, label: str) -> Tensor:
    scale = max(1, -(-NARROWEST // clip.shape[2]))
    large = clip.float().cpu().repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    frames, _, width, _ = large.shape
    strip = Image.new("L", (width, STRIP), BACKGROUND)
    ImageDraw.Draw(strip).text((GAP, 2), label, fill=INK, font=ImageFont.load_default(FONT_SIZE))
    written = torch.from_numpy(np.array(strip)).float()[None, :, :, None] / 255
    tile = torch.cat([large, written.expand(frames, -1, -1, 3)], dim=1)
    return torch.nn.functional.pad(tile, (0, 0, 0, GAP, 0, GAP), value=BACKGROUND / 255)
