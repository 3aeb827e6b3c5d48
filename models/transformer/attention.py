"""Attention: one call for dense, masked and packed (block-diagonal) sequences, over any kernel.

`attend` is the dispatcher. A dense row goes to the kernel that it is given: torch's own, plain products, or a host's.
Packed clips go, where nobody asked for another kernel, to the one that the device got for them (packed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .gradients import followed
from .norms import inverse_rms, normed, rms
from .packed import packed_attention
from .plain import norm_weights
from .rope import apply_rope
from .shares import Shares
from .tiled import by_tiles, tiled_attention

# (queries, keys, values, mask) -> (B, K, N, head_dim); q, k, v are (B, K, N, head_dim), mask (B, 1, 1, L) bool or None
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
TILE = 256  # tokens


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot product attention by torch's kernel, on CPUs that gain by it in tiles."""
    if by_tiles(q, k, v, mask):
        return tiled_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The same in plain matrix products: with gradients, on CPUs and short sequences, twice as fast as sdpa.

    As there, what may attend to nothing gets 0.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, K, N, L)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        v = v.masked_fill(~mask.any(dim=-1, keepdim=True), 0)
    return scores.softmax(dim=-1) @ v


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    kernel: Kernel = sdpa,
    lengths: Sequence[int] = (),
    key_lengths: Sequence[int] = (),
) -> Tensor:
    """Attention (B, K, N, head_dim). With `lengths` of several clips, each attends only to its own keys.

    On a GPU that has a kernel for that it is one call. Else one call per clip: on CPUs this is the fastest form of
    block-diagonal attention, and exact everywhere. So it is with a mask, and with a kernel of the caller's.
    """
    if len(lengths) < 2:
        return kernel(q, k, v, mask)
    sizes = list(key_lengths or lengths)
    if mask is None and kernel is sdpa and q.device.type != "cpu":
        return packed_attention(q, k, v, lengths, sizes)
    masks = mask.split(sizes, dim=-1) if mask is not None else [None] * len(sizes)
    clips = zip(q.split(list(lengths), dim=2), k.split(sizes, dim=2), v.split(sizes, dim=2), masks, strict=True)
    return torch.cat([kernel(*clip) for clip in clips], dim=2)


def attend_to_shares(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kernel: Kernel, key_lengths: Sequence[int], shares: Shares
) -> Tensor:
    """Cross-attention (B, K, N, head_dim) in which each patch has texts of its own.

    Where a patch has a share in several texts its answers are mixed; where in one, that is its answer to the bit.
    """
    sizes = list(key_lengths)
    masks = mask.split(sizes, dim=-1) if mask is not None else [None] * len(sizes)
    texts = zip(k.split(sizes, dim=2), v.split(sizes, dim=2), masks, shares, strict=True)
    out = torch.zeros_like(q)
    for keys, values, visible, (tokens, weight) in texts:
        if len(tokens):
            answer = kernel(q.index_select(2, tokens), keys, values, visible)
            out.index_add_(2, tokens, answer * weight.to(q)[:, None])
    return out


def normed_rope(norms: Sequence[nn.Module], x: Tensor, table: Tensor) -> Sequence[Tensor]:
    """Norm, then rotate queries and keys (2, B, K, N, head_dim), each by its own norm; float32 in between.

    table: (2, N, head_dim / 2), or (2, B, 1, N, head_dim / 2) where each of the batch has positions of its own.
    On CPUs in tiles of tokens: the many passes of it then work on what is in the cache.
    """
    if x.device.type != "cpu":
        return [apply_rope(norm(part), table) for norm, part in zip(norms, x, strict=True)]
    scales = [norm_weights(norm, x) for norm in norms]
    if not followed(x, *scales):
        return _weighted_rope(torch.stack(scales), x, table).unbind()
    return [_rope_in_tiles(scale, part, table) for scale, part in zip(scales, x, strict=True)]


def _rope_in_tiles(scale: Tensor, x: Tensor, table: Tensor) -> Tensor:
    """The same of one of them, in a form that autograd follows."""
    parts = zip(x.split(TILE, dim=2), table.split(TILE, dim=-2), strict=True)
    return torch.cat([apply_rope(rms(part.float()) * scale, rows).to(x.dtype) for part, rows in parts], dim=2)


def _weighted_rope(scales: Tensor, x: Tensor, table: Tensor) -> Tensor:
    """The same of all, with their weights (2, head_dim) in the table, which has no heads, and results written in place.

    Both have as many passes in common as they have numbers, so they are one tensor here.
    """
    half = x.shape[-1] // 2
    one, two = scales.float()[:, None, None, None].split(half, dim=-1)  # of the first and the second channel of a pair
    cos, sin = table if table.ndim > 3 else table[:, None, None]
    turns = cos * one, sin * two, cos * two, sin * one  # each (2, B or 1, 1, N, head_dim / 2)
    out = torch.empty(x.shape, dtype=x.dtype)
    for tile in zip(x.split(TILE, dim=3), out.split(TILE, dim=3), *(t.split(TILE, dim=3) for t in turns), strict=True):
        part, place, cos1, sin2, cos2, sin1 = tile
        part = part.to(torch.float32, copy=True, memory_format=torch.contiguous_format)  # else as far apart as in x
        first, second = part.mul_(inverse_rms(part)).split(half, dim=-1)
        low, high = place.split(half, dim=-1)
        low.copy_((first * cos1).addcmul_(second, sin2, value=-1))
        high.copy_((second * cos2).addcmul_(first, sin1))
    return out


class SelfAttention(nn.Module):
    """Full attention over all spacetime patches, with RMS-normalised queries and keys and rotary positions."""

    def __init__(self, hidden_size: int, num_heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = hidden_size // num_heads
        self.qkv = operations.Linear(hidden_size, 3 * hidden_size, bias=False, **factory)
        self.q_norm = operations.RMSNorm(head_dim, eps=1e-6, **factory)
        self.k_norm = operations.RMSNorm(head_dim, eps=1e-6, **factory)
        self.proj = operations.Linear(hidden_size, hidden_size, bias=False, **factory)

    def forward(self, x: Tensor, rope: Tensor, kernel: Kernel, lengths: Sequence[int]) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, K, N, head_dim)
        q, k = normed_rope((self.q_norm, self.k_norm), heads[:2], rope)
        out = attend(q, k, heads[2], kernel=kernel, lengths=lengths)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class CrossAttention(nn.Module):
    """Patches attend to the text. Keys and values depend on the text alone: `keys_values` is called once per run."""

    def __init__(self, hidden_size: int, num_heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = hidden_size // num_heads
        self.q = operations.Linear(hidden_size, hidden_size, bias=False, **factory)
        self.kv = operations.Linear(hidden_size, 2 * hidden_size, bias=False, **factory)
        self.q_norm = operations.RMSNorm(head_dim, eps=1e-6, **factory)
        self.k_norm = operations.RMSNorm(head_dim, eps=1e-6, **factory)
        self.proj = operations.Linear(hidden_size, hidden_size, bias=False, **factory)

    def keys_values(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, L, head_dim) of text features (B, L, D)."""
        k, v = rearrange(self.kv(text), "b l (two k d) -> two b k l d", two=2, k=self.num_heads)
        return normed(self.k_norm, k), v

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        kernel: Kernel,
        lengths: Sequence[int] = (),
        key_lengths: Sequence[int] = (),
        shares: Shares | None = None,
    ) -> Tensor:
        q = normed(self.q_norm, self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2))  # (B, K, N, head_dim)
        if shares is not None:
            out = attend_to_shares(q, keys, values, mask, kernel, key_lengths, shares)
        else:
            parts = lengths if key_lengths else ()  # one text for all packed clips needs no split
            out = attend(q, keys, values, mask, kernel=kernel, lengths=parts, key_lengths=key_lengths)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected
