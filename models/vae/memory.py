"""How much memory the VAE takes beside its weights, for those who make room for it: in pieces it is flat in the length.

Counted in copies of the widest layer's output; how many are alive at once was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .autoencoder import PIECE_AREA, SPACE, TIME, VAEConfig, piece_length

FLOAT = 4  # bytes
# what convolutions take beside their tensors: on an H200 the widest encoder took 1.18 times what the tensors alone do
WORKSPACE = 1.25
COPIES = 8  # a residual block's input, norms, and the frames before it, three times over; each block keeps one more


def decoder_bytes(config: VAEConfig, shape: Sequence[int], *, cyclic: bool = False) -> int:
    """Bytes to decode latents (B, C, T, H, W) piece by piece; a short loop is one piece (`cyclic`)."""
    coarse, middle, fine = config.decoder_widths
    scales = (coarse, 8 * middle, 64 * fine)  # numbers in one position of a latent
    return FLOAT * shape[0] * _positions(shape[2:], cyclic=cyclic) * _numbers(scales, config.decoder_depths[2])


def encoder_bytes(config: VAEConfig, shape: Sequence[int], *, cyclic: bool = False) -> int:
    """Bytes to encode pixels (B, 3, F, H, W) piece by piece."""
    batch, _, frames, height, width = shape
    coarse, fine = config.encoder_widths
    latent = (-(-frames // TIME), height // SPACE, width // SPACE)
    numbers = _numbers((coarse, 8 * fine), config.encoder_depths[1])
    return int(WORKSPACE * FLOAT * batch * _positions(latent, cyclic=cyclic) * numbers)


def _positions(shape: Sequence[int], *, cyclic: bool) -> int:
    """Positions of latents (T, H, W) that are at work at a time."""
    length, height, width = shape
    whole = cyclic and prod(shape) <= PIECE_AREA
    return (length if whole else min(length, piece_length(height, width))) * height * width


def _numbers(scales: Sequence[int], depth: int) -> int:
    """Numbers alive in one position: copies at the widest scale, and the pixels as they come in or go out."""
    return (COPIES + depth) * max(scales) + 4 * 3 * TIME * SPACE * SPACE
