"""Rotary position embedding over (time, height, width), and its cyclic form for loops.

A head's channel pairs are divided among the three axes. A pair with frequency f turns by f radians per patch.
In cyclic time the frequencies are whole harmonics of the loop (2 pi k / T), so attention sees only differences
modulo T and commutes with a roll of the frames; ordinary RoPE (arXiv 2104.09864) does not.
For videos longer than those of the training one frequency of time can be slowed down (RIFLEx, arXiv 2502.15894).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..patches import Grid
from ..transfer import sent

THETA = 100.0  # grids are tens of patches long: the slowest pair turns once in about 400 patches
COVERED = 0.9  # of a turn, over a video that is longer than those of the training
FASTEST = math.pi / 2  # radians per patch: the fastest pair still tells neighbours apart without wrapping


def split_pairs(head_dim: int) -> tuple[int, int, int]:
    """How many channel pairs rotate with time, height and width; time gets what height and width leave."""
    if head_dim % 2:
        raise ValueError(f"rotary embedding wants an even head size, got {head_dim}")
    space = head_dim // 6
    return head_dim // 2 - 2 * space, space, space


def frequencies(pairs: int) -> Tensor:
    """Radians per patch of each pair, float64 (pairs,), fastest first."""
    return FASTEST * THETA ** (-torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))


def cyclic_frequencies(pairs: int, period: int) -> Tensor:
    """The whole harmonics 1 .. period/2 of a loop of `period` patches that lie nearest to the ordinary frequencies."""
    harmonics = (frequencies(pairs) * period / (2 * math.pi)).round().clamp(1, max(period // 2, 1))
    return harmonics * (2 * math.pi / period)


def repeating_pair(freqs: Tensor, trained: int) -> int:
    """Which of the frequencies, fastest first, comes round first in a video longer than `trained` patches.

    It is the fastest whose period is not shorter than that: faster ones came round in training as well. This is the
    choice of RIFLEx's authors for HunyuanVideo (4th of 8) and CogVideoX (2nd of 8).
    """
    periods = 2 * math.pi / freqs
    longer = (periods >= trained).nonzero()
    return int(longer[0]) if len(longer) else len(freqs) - 1


def extrapolated(freqs: Tensor, trained: int, wanted: int, pair: int = -1) -> Tensor:
    """Frequencies (pairs,) for `wanted` patches of time, by a model trained on `trained` (RIFLEx, arXiv 2502.15894).

    The frequency that would come round, or number `pair`, is slowed down so that nine tenths of a turn last the whole
    video; the others stay as they are. Nothing changes for videos of the training's length.
    """
    if wanted <= trained:
        return freqs
    pair = repeating_pair(freqs, trained) if pair < 0 else pair
    if pair >= len(freqs):
        raise ValueError(f"there is no frequency {pair + 1} of time, only {len(freqs)}: choose one of those, or 0")
    slowed = freqs.clone()
    slowed[pair] = min(float(freqs[pair]), COVERED * 2 * math.pi / wanted)
    return slowed


def rope_table(
    grids: Sequence[Grid],
    head_dim: int,
    *,
    cyclic: bool = False,
    trained_frames: int = 0,
    pair: int = -1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Cosines and sines (2, N, head_dim / 2), float32, for the tokens of the clips in `grids` one after the other.

    trained_frames: frames of patches of the training, to extrapolate beyond them; 0: positions as they are.
    """
    angles = []
    pairs_t, pairs_h, pairs_w = split_pairs(head_dim)
    for grid in grids:
        t, y, x = grid.coordinates().double().unbind(-1)
        time = cyclic_frequencies(pairs_t, grid.frames) if cyclic else frequencies(pairs_t)
        if trained_frames and not cyclic:
            time = extrapolated(time, trained_frames, grid.frames, pair)
        axes = ((t, time), (y, frequencies(pairs_h)), (x, frequencies(pairs_w)))
        angles.append(torch.cat([position[:, None] * freq for position, freq in axes], dim=-1))
    angle = torch.cat(angles)  # (N, head_dim / 2)
    return sent(torch.stack([angle.cos(), angle.sin()]).float(), device)


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate queries or keys (B, K, N, head_dim); a pair is channel i and channel i + head_dim / 2."""
    cos, sin = table
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    return torch.cat(turned, dim=-1).to(x.dtype)
