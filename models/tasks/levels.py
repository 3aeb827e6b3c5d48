"""What a change level between 0 and 1 means. Published systems differ; here are the four meanings and their names."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Levels = Literal["scale", "clamp", "gate", "binary"]
LEVELS: tuple[Levels, ...] = get_args(Levels)


def as_levels(name: str) -> Levels:
    """A meaning by its name. ValueError for an unknown one."""
    for levels in LEVELS:
        if name == levels:
            return levels
    raise ValueError(f"unknown meaning of levels {name!r}: use one of {', '.join(LEVELS)}")


def seen_change(change: Tensor, sigma: Tensor, levels: Levels) -> Tensor:
    """How noisy the model sees each place at sigma, as a share of sigma: the place's own noise level is this x sigma.

    scale   m: noise and steps shrink alike                              ComfyUI, LTX-2
    clamp   min(sigma, m) / sigma: waits at noise level m, seen noisy    LTX-Video
    gate    0 until sigma has come down to m: waits clean, then noised   Open-Sora 1.2; SDEdit (arXiv 2108.01073)
    binary  0 or 1, whichever is nearer                                  Wan 2.2

    change (B, ...) in [0, 1], sigma (B,). A value above 1, as of places that are hidden (models.guidance), stays.
    """
    level = sigma.reshape(-1, *([1] * (change.ndim - 1))).to(change)
    if levels == "scale":
        return change
    if levels == "clamp":
        seen = (change / level.clamp(min=torch.finfo(change.dtype).tiny)).clamp(max=1.0)
    else:
        seen = open_places(change, sigma, levels)
    return torch.where(change > 1, change, seen)


def open_places(change: Tensor, sigma: Tensor, levels: Levels) -> Tensor:
    """How much of the model's prediction a place takes at sigma; the rest is its reference. Shapes as in seen_change.

    A place that takes none stays on the straight line between its noise and its reference, so when it opens at
    sigma = m it is the reference noised to m.
    """
    level = sigma.reshape(-1, *([1] * (change.ndim - 1))).to(change)
    if levels == "scale":
        return change
    if levels in ("clamp", "gate"):
        # schedules come in float32: a start at exactly m must count as open
        return (level <= change + 1e-6).to(change) * (change > 0)
    return (change >= 0.5).to(change)
