"""Loops as long clips: some of a loop's own latents or frames in front of it."""

from __future__ import annotations

import torch
from torch import Tensor


def led_by(images: Tensor, lead: int, each: int) -> Tensor:
    """A loop of images with the frames of `lead` of its latents in front, and one more frame to begin with."""
    return images[torch.arange(-1 - lead * each, len(images)) % len(images)]


def around(clip: Tensor, before: int, after: int = 0) -> Tensor:
    """A loop (B, C, T, H, W) with so many latents of it in front and behind, also several times round."""
    order = torch.arange(-before, clip.shape[2] + after, device=clip.device) % clip.shape[2]
    return clip[:, :, order]
