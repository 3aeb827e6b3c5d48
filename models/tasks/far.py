"""Extend a clip past a model's own length: window by window, handing over latents, never decoding in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .along_time import extend
from .canvas import Canvas
from .statistics import match_statistics, statistics

Generate = Callable[[Canvas, int], Tensor]  # (what a window knows, its number) -> all its latents


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How to go: `window` latents at a time, of which `context` are known from before.

    anchor  how far each new piece is brought back to the source's mean and deviation per channel, 0 to 1: small
            errors of colour and contrast would otherwise be handed on and grow
    """

    window: int
    context: int
    anchor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.context < self.window:
            raise ValueError(
                f"windows of {self.window} latents with {self.context} known ones: 1 must be known and 1 new at least"
            )
        if not 0 <= self.anchor <= 1:
            raise ValueError(f"the anchor is {self.anchor}: it must lie between 0 and 1")

    def count(self, more: int, *, backward: bool = False) -> int:
        """How many windows `more` latents take; backward, each renews the first latent that was there."""
        return -(-more // (self.window - self.context - backward))


@dataclass(frozen=True)
class Extended:
    """The whole video, and how far each new piece had drifted from the source before it was brought back."""

    latents: Tensor  # (B, C, T, H, W)
    drift: tuple[float, ...]  # per window: root mean square change of the channels' means, in deviations


def extend_far(clip: Tensor, more: int, windows: Windows, generate: Generate, *, backward: bool = False) -> Extended:
    """A clip (B, C, T, H, W) with `more` latents after it, or before it. Windows do not grow with the length."""
    if more < 1:
        raise ValueError(f"extend by {more} latents: it must be 1 or more")
    if clip.shape[2] < windows.context + backward:
        raise ValueError(
            f"the clip has {clip.shape[2]} latents, the context wants {windows.context + backward}: shorten the context"
        )
    if backward and windows.window - windows.context < 2:
        raise ValueError("backward, a window must have room for at least 2 new latents: shorten the context")
    mean, std = statistics(clip)
    drift: list[float] = []
    video, target = clip, clip.shape[2] + more
    while video.shape[2] < target:
        room = windows.window - windows.context
        if backward:
            room = min(room, target - video.shape[2] + 1)
            canvas = extend(video[:, :, : windows.context + 1], before=room)
        else:
            room = min(room, target - video.shape[2])
            canvas = extend(video[:, :, -windows.context :], after=room)
        piece = generate(canvas, len(drift))
        new = piece[:, :, :room] if backward else piece[:, :, -room:]
        drift.append(float(((statistics(new)[0] - mean) / std.clamp(min=1e-6)).square().mean().sqrt()))
        new = match_statistics(new, mean, std, windows.anchor)
        video = torch.cat([new, video[:, :, 1:]] if backward else [video, new], dim=2)
    return Extended(video, tuple(drift))
