"""Pixels as the models see them, (3, F, H, W) in [-1, 1], and as files and metrics do, (F, H, W, 3) uint8."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_uint8(video: Tensor) -> NDArray[np.uint8]:
    """Pixels (3, F, H, W) in [-1, 1] -> (F, H, W, 3) uint8."""
    pixels = (video.detach().float().clamp(-1, 1).add(1).mul(127.5)).round().to(torch.uint8)
    return pixels.permute(1, 2, 3, 0).cpu().numpy()


def from_uint8(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Frames (F, H, W, 3) uint8 -> pixels (3, F, H, W) in [-1, 1], float32; bytes are what goes to the device."""
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(3, 0, 1, 2).float() / 127.5 - 1


def stored(frames: NDArray[np.uint8]) -> Tensor:
    """Frames (F, H, W, 3) uint8 -> (3, F, H, W) uint8, for keeping many clips in memory."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, 0)))


def as_pixels(stored: Tensor) -> Tensor:
    """Bytes of any shape -> pixels in [-1, 1], float32, as from_uint8 makes them; floats are pixels already."""
    return stored if stored.is_floating_point() else stored.float() / 127.5 - 1
