"""A map of change levels over time and space, as it is painted: what may change in a clip, where, and how far."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

import torch
from torch import Tensor

from ..files import parsed_json
from ..patches import Patch
from .canvas import Canvas

MOST = 1 << 17  # cells of a map
WHOLE = 100  # a level of 1; levels are painted in hundredths, which bytes hold exactly
KEYS = {"size", "levels"}
REMEDY = "paint it anew"


@dataclass(frozen=True)
class LevelMap:
    """Levels of cells, in hundredths, frame after frame and row after row.

    size  (frames, rows, columns) of the cells, which need not be those of the clip
    """

    size: tuple[int, int, int]
    levels: bytes

    def on(self, frames: int, rows: int, columns: int) -> Tensor:
        """Levels (frames, rows, columns) in 0..1 for another grid: each place has that of the cell over its middle."""
        cells = torch.frombuffer(bytearray(self.levels), dtype=torch.uint8).reshape(self.size)
        for axis, wanted in enumerate((frames, rows, columns)):
            there = cells.shape[axis]
            cells = cells.index_select(
                axis, torch.tensor([(2 * at + 1) * there // (2 * wanted) for at in range(wanted)])
            )
        return cells.double().div(WHOLE).float()

    def text(self) -> str:
        """As it stands in a workflow."""
        levels = base64.b64encode(self.levels).decode()
        return json.dumps({"size": list(self.size), "levels": levels}, separators=(",", ":"))


def parse_map(text: str) -> LevelMap:
    """A map from its text. ValueError, in a sentence, for anything else; an empty text is an empty map."""
    if not text.strip():
        return LevelMap((1, 1, 1), b"\0")
    held = parsed_json(text, "the map of levels", dict, advice=REMEDY)
    if set(held) != KEYS:
        raise ValueError(f"a map of levels has a size and levels, this one has {', '.join(map(str, held))}: {REMEDY}")
    size, coded = held["size"], held["levels"]
    whole = isinstance(size, list) and len(size) == 3 and all(type(one) is int and one > 0 for one in size)
    if not whole or size[0] * size[1] * size[2] > MOST:
        raise ValueError(f"the size of a map is frames, rows and columns, {MOST} cells at most: {REMEDY}")
    try:
        levels = base64.b64decode(coded, validate=True) if isinstance(coded, str) else b""
    except (binascii.Error, ValueError):
        levels = b""
    if len(levels) != size[0] * size[1] * size[2] or max(levels) > WHOLE:
        raise ValueError(f"a map of {size} cells needs a level of 0 to {WHOLE} for each of them: {REMEDY}")
    return LevelMap((size[0], size[1], size[2]), levels)


def grid_of(clip: Canvas, patch: Patch) -> tuple[int, int, int]:
    """The cells that a map of this clip has: latents in time, patches in space."""
    frames, height, width = clip.latents.shape[2:]
    return frames, -(-height // patch[1]), -(-width // patch[2])


def painted(clip: Canvas, levels: LevelMap, patch: Patch) -> Canvas:
    """The clip with what the map lets change; what was still to be generated stays so (the larger level counts)."""
    fine = levels.on(*grid_of(clip, patch)).repeat_interleave(patch[1], dim=1).repeat_interleave(patch[2], dim=2)
    height, width = clip.latents.shape[3:]
    change = fine[None, None, :, :height, :width].expand(clip.latents.shape[0], -1, -1, -1, -1)
    return clip.freed(change.to(clip.latents))
