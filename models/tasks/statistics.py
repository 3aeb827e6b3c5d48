"""Mixing latents, and holding on to their statistics."""

from __future__ import annotations

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Along the arc from a to b in channel space (axis 1), so that the contrast does not sag halfway."""
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = (a * b).sum(dim=1, keepdim=True) / (lengths[0] * lengths[1]).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    sine = torch.sin(angle)
    arc = (torch.sin((1 - weight) * angle) * a + torch.sin(weight * angle) * b) / sine
    # (anti)parallel vectors have no arc of their own
    return torch.where(cosine.abs() > 0.9995, torch.lerp(a, b, weight), arc)


def match_statistics(latents: Tensor, mean: Tensor, std: Tensor, strength: float = 1.0) -> Tensor:
    """Latents (B, C, T, H, W) with mean and deviation per channel, (B, C), moved towards those given (AdaIN)."""
    own_mean, own_std = statistics(latents)
    shape = (*own_mean.shape, 1, 1, 1)
    scaled = (latents - own_mean.reshape(shape)) / own_std.clamp(min=1e-6).reshape(shape) * std.reshape(shape)
    return torch.lerp(latents, scaled + mean.reshape(shape), strength)


def statistics(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over time and space, (B, C) each."""
    return latents.mean(dim=(2, 3, 4)), latents.std(dim=(2, 3, 4))
