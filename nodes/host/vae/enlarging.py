"""Latents of a larger clip by its frames: decoded, enlarged and encoded again, piece by piece where the VAE streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .in_time import encode_clip
from .pieces import SpacetimeVAE, decode_pieces, encode_pieces


def enlarged(vae: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents (B, C, T, height, width) of the frames of clips (B, C, T, h, w), enlarged (bicubic). For open clips."""
    tall, wide = height / latents.shape[3], width / latents.shape[4]

    def frames(clip: Tensor) -> Iterator[Tensor]:
        for images in decode_pieces(vae, clip):
            size = round(images.shape[1] * tall), round(images.shape[2] * wide)
            large = interpolate(images.movedim(-1, 1), size=size, mode="bicubic", align_corners=False)
            yield large.movedim(1, -1).clamp(0, 1)

    def encoded(clip: Tensor) -> Tensor:
        if isinstance(vae, SpacetimeVAE):
            return encode_pieces(vae, frames(clip))
        return encode_clip(vae, frames(clip))[0]

    made = torch.cat([encoded(clip) for clip in latents.split(1)]).to(latents)
    if made.shape[2:] != (latents.shape[2], height, width):
        raise ValueError(
            f"this VAE makes latents of {tuple(made.shape[2:])} of the enlarged clip, expected "
            f"{(latents.shape[2], height, width)}: choose another scale, or leave `vae` out"
        )
    return made
