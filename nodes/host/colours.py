"""Latents as rough pictures, without a VAE: core's linear map from latent channels to red, green and blue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.media.sprite import LARGEST, as_bytes
from ...models.transfer import sent


class Colours:
    """The map of one latent format, on the device of what it is given first."""

    def __init__(self, latent_format: Any) -> None:
        """ValueError for a format of which no colours are known, or which core lays out anew before."""
        factors = getattr(latent_format, "latent_rgb_factors", None)
        if factors is None or getattr(latent_format, "latent_rgb_factors_reshape", None) is not None:
            raise ValueError("of this model's latents no colours are known")
        self._weight = torch.tensor(factors, dtype=torch.float32).T.contiguous()  # (3, C)
        bias = getattr(latent_format, "latent_rgb_factors_bias", None)
        self._bias = torch.tensor(bias or [0.0, 0.0, 0.0], dtype=torch.float32)

    @property
    def channels(self) -> int:
        """Of the latents that it takes."""
        return self._weight.shape[1]

    def __call__(self, latents: Tensor) -> Tensor:
        """Of latents (C, T, H, W) in the model's units: frames (T, h, w, 3), uint8, no larger than a tile."""
        self._weight, self._bias = (
            x if x.device == latents.device else sent(x, latents.device) for x in (self._weight, self._bias)
        )
        frames = latents.float().movedim(0, 1)  # (T, C, H, W)
        longer = max(frames.shape[-2:])
        if longer > LARGEST:
            frames = F.interpolate(frames, scale_factor=LARGEST / longer, mode="area")
        return as_bytes(F.linear(frames.movedim(1, -1), self._weight, self._bias) / 2 + 0.5)


def colours_of(latent_format: Any) -> Colours | None:
    """The map of a format; None where core knows none."""
    try:
        return Colours(latent_format)
    except ValueError:
        return None


def unit(latents: Tensor) -> Tensor:
    """A noisy state brought to the spread of clean latents, where its noise is larger than 1; nothing is waited for."""
    return latents / latents.std().clamp_min(1)
