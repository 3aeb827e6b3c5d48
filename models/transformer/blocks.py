"""The DiT block and head: adaLN modulation by each patch's own noise level (adaLN-single, arXiv 2310.00426)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import CrossAttention, Kernel, SelfAttention
from .gradients import followed
from .norms import normed, rms
from .plain import halves
from .shares import Shares


class Text(NamedTuple):
    """What one block needs of the text, computed once per run."""

    keys: Tensor  # (B, K, L, head_dim)
    values: Tensor
    mask: Tensor | None  # (B, 1, 1, L) bool, True = real token
    lengths: tuple[int, ...]  # tokens of each text where there are several, one after the other, else empty
    shares: Shares | None = None  # how much of each is whose, where patches of one clip have texts of their own


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: RMS norm of x (B, N, D), scaled and shifted by (B, M, D), where each of M serves N / M tokens in a row."""
    unit, shift, scale = grouped(rms(x), shift, scale)
    factors = (shift, unit, 1 + scale)
    return torch.addcmul(*factors, out=None if followed(*factors) else unit).reshape(x.shape)


def gated(x: Tensor, gate: Tensor, update: Tensor) -> Tensor:
    """x + gate * update, with gate (B, M, D) as in `modulated`. Without gradients it is written over the update."""
    old, wide = grouped(x, gate)
    factors = (old, wide, update.reshape(old.shape))
    return torch.addcmul(*factors, out=None if followed(*factors) else factors[2]).reshape(x.shape)


def grouped(x: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
    """x (B, N, D) and rows (B, M, D) in shapes that fit: as they are, or as (B, M, N / M, D) and (B, M, 1, D)."""
    count = levels[0].shape[1]
    if count in (1, x.shape[1]):
        return x, *levels
    return x.unflatten(1, (count, -1)), *(rows[:, :, None] for rows in levels)


class GatedMLP(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, inner_size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.gate_up = operations.Linear(hidden_size, 2 * inner_size, bias=False, **factory)
        self.down = operations.Linear(inner_size, hidden_size, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = halves(self.gate_up, x)
        out: Tensor = self.down(F.silu(gate, inplace=gate.is_contiguous() and not followed(gate, up)).mul_(up))
        return out


class Block(nn.Module):
    """Self-attention over patches, cross-attention to text, gated MLP.

    The residual stream starts as the identity: the gates of `table` are zero. Modulation (B, M, 6, D), one per noise
    level, is shared by all blocks; each adds its own table (6, D): shift, scale, gate for attention, then for the MLP.
    """

    def __init__(self, hidden_size: int, num_heads: int, inner_size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(6, hidden_size, **factory))
        self.self_attn = SelfAttention(hidden_size, num_heads, operations, **factory)
        self.cross_attn = CrossAttention(hidden_size, num_heads, operations, **factory)
        self.cross_norm = operations.RMSNorm(hidden_size, eps=1e-6, **factory)
        self.mlp = GatedMLP(hidden_size, inner_size, operations, **factory)

    def forward(
        self, x: Tensor, modulation: Tensor, rope: Tensor, text: Text | None, kernel: Kernel, lengths: Sequence[int]
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.table.to(x)).unbind(dim=-2)
        x = gated(x, gate1, self.self_attn(modulated(x, shift1, scale1), rope, kernel, lengths))
        if text is not None:
            attended = self.cross_attn(
                normed(self.cross_norm, x),
                text.keys,
                text.values,
                text.mask,
                kernel,
                lengths,
                text.lengths,
                text.shares,
            )
            x = x + attended
        return gated(x, gate2, self.mlp(modulated(x, shift2, scale2)))


class Head(nn.Module):
    """Final modulation and projection of each token to its patch."""

    def __init__(self, hidden_size: int, patch_values: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2, hidden_size, **factory))
        self.linear = operations.Linear(hidden_size, patch_values, **factory)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = (c.unsqueeze(-2) + self.table.to(x)).unbind(dim=-2)
        values: Tensor = self.linear(modulated(x, shift, scale))
        return values
