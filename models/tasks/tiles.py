"""A prediction in overlapping tiles: each is predicted alone, and where tiles overlap they fade into each other.

All tiles are parts of one state with one noise, and they are put together again at every step, so what one tile decides
the next ones see: no seam is left where they meet (as in MultiDiffusion, arXiv 2302.08113).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..transfer import sent

Part = tuple[tuple[int, int], ...]  # (start, length) in time, height and width


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Tiles of latents, (frames, height, width), that overlap by a share of their size, and begin at whole patches."""

    size: tuple[int, int, int]
    overlap: float
    patch: tuple[int, int, int] = (1, 2, 2)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"tiles of {self.size} latents: each side must be 1 or more")
        if not 0 <= self.overlap <= 0.5:
            raise ValueError(f"tiles that overlap by {self.overlap:g} of their size: use 0 to 0.5")

    def parts(self, shape: Sequence[int]) -> list[Part]:
        """The tiles of latents (..., T, H, W); one where they are no larger than a tile."""
        axes = zip(shape[-3:], self.size, self.patch, strict=True)
        return list(product(*(_spans(length, tile, self.overlap, step) for length, tile, step in axes)))

    def largest(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the largest tile of latents (B, C, T, H, W)."""
        return (*shape[:2], *(min(pair) for pair in zip(shape[-3:], self.size, strict=True)))


def _spans(length: int, tile: int, overlap: float, step: int) -> list[tuple[int, int]]:
    """Where tiles along one axis begin, and how long they are: at even distances, the last one at the end."""
    if length <= tile:
        return [(0, length)]
    most = max(step, int(tile * (1 - overlap)) // step * step)  # between the beginnings of two tiles
    count = math.ceil((length - tile) / most) + 1
    starts = [round(index * (length - tile) / (count - 1) / step) * step for index in range(count - 1)]
    return [(start, tile) for start in starts] + [(length - tile, tile)]


def weight_of(part: Part, parts: Sequence[Part]) -> Tensor:
    """How much a tile counts in each of its places, (t, h, w): less towards where another tile goes on."""
    ramps = []
    for axis, (start, length) in enumerate(part):
        others = {other[axis] for other in parts} - {(start, length)}
        ramp = torch.ones(length)
        before = max((begin + size - start for begin, size in others if begin < start < begin + size), default=0)
        after = max((start + length - begin for begin, _ in others if start < begin < start + length), default=0)
        places = torch.arange(length, dtype=torch.float32)
        if before:
            ramp = torch.minimum(ramp, (places + 1) / (before + 1))
        if after:
            ramp = torch.minimum(ramp, (length - places) / (after + 1))
        ramps.append(ramp.square() * (3 - 2 * ramp))  # slow at both ends
    return ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]


def in_tiles(x: Tensor, tiling: Tiling, predict: Callable[[Tensor, Part], Tensor]) -> Tensor:
    """predict(tile, part) of every tile of x (B, C, T, H, W), put together; its channels may be others than x's.

    Memory for predictions is that of one tile, whatever the size of x. A single tile is x itself.
    """
    parts = tiling.parts(x.shape)
    if len(parts) == 1:
        return predict(x, parts[0])
    total: Tensor | None = None
    counts = x.new_zeros(x.shape[2:], dtype=torch.float32)
    for part in parts:
        made = predict(taken(x, part), part)
        weight = sent(weight_of(part, parts), made.device)
        if total is None:
            total = made.new_zeros((*made.shape[:2], *x.shape[2:]), dtype=torch.float32)
        taken(total, part).add_(made.float() * weight)
        taken(counts, part).add_(weight.to(counts))
    assert total is not None
    return (total / counts).to(made.dtype)


def taken(x: Tensor, part: Part) -> Tensor:
    """The part of a tensor (..., T, H, W), sharing its memory."""
    for axis, (start, length) in zip((-3, -2, -1), part, strict=True):
        x = x.narrow(axis, start, length)
    return x
