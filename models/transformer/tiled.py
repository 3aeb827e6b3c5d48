"""Attention on CPUs that multiply bf16 by vector units (AVX-512 BF16), in plain products over tiles of the scores.

torch's own kernel there spends most of its time beside the products; with scores that stay in a core's cache, products
and softmax take two thirds of it at 1000 patches of 64 channels. The scores are rounded to bf16, which torch's kernel
does a step later, after the exponential: the error of the result is 4e-3 instead of 2e-3 of its norm, as much as the
rounding of queries, keys and values to bf16 themselves. CPUs with matrix units (AMX) keep torch's kernel, which is
written for those.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import torch
from torch import Tensor

from ..precision import cpu_multiplies_bf16
from .gradients import followed

TILE = 1 << 20  # scores at once and per thread: 2 MB in bf16


@cache
def cpu_gains() -> bool:
    """Whether this CPU is one that tiles are faster on."""
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return cpu_multiplies_bf16() and not has_amx()


def by_tiles(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """Whether attention of these is one for tiles: in bf16 on such a CPU, without a mask and without gradients."""
    if mask is not None or q.device.type != "cpu" or q.dtype != torch.bfloat16 or not cpu_gains():
        return False
    return not followed(q, k, v)


def tiled_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (B, K, N, head_dim) of queries like that to keys and values (B, K, L, head_dim), without gradients.

    Each row of scores is whole in one tile, so that the size of the tiles changes no bit of the result. That lies in
    memory as (B, N, K, head_dim), which the next layer wants.
    """
    batch, heads, queries, size = q.shape
    keys, threads = k.shape[2], torch.get_num_threads()
    out = q.new_empty(batch, queries, heads, size)
    room = TILE * threads
    clips = max(1, min(batch, room // (heads * queries * keys)))  # of the batch in one tile
    together = heads if clips > 1 else min(heads, max(threads, room // (queries * keys)))
    rows = min(queries, max(room // (clips * together * keys), 16))
    scores, shares = q.new_empty(2, clips * together * rows * keys)  # written anew for each tile, so they stay in cache
    for clip, head in product(range(0, batch, clips), range(0, heads, together)):
        part = (slice(clip, clip + clips), slice(head, head + together))
        some, every, values = (x[part].flatten(0, 1) for x in (q, k, v))
        every, values = every.transpose(1, 2), values.contiguous()  # rows that lie apart are multiplied more slowly
        for row in range(0, queries, rows):
            tile = some[:, row : row + rows]
            shape = (*tile.shape[:2], keys)
            score, share = (x[: math.prod(shape)].view(shape) for x in (scores, shares))
            torch.softmax(score.baddbmm_(tile, every, beta=0, alpha=size**-0.5), dim=-1, out=share)
            answer = torch.bmm(share, values).unflatten(0, (-1, min(together, heads - head)))
            out[part[0], row : row + rows, part[1]] = answer.transpose(1, 2)
    return out.transpose(1, 2)


def told(device: torch.device | str) -> str:
    """What was chosen for dense attention and why, in a line."""
    if torch.device(device).type != "cpu":
        return "ComfyUI's dispatcher, because its options and other packs choose there; outside ComfyUI torch's own"
    if cpu_gains():
        return "products in tiles in bf16, because this CPU multiplies it by vector units; torch's own in fp32"
    if cpu_multiplies_bf16():
        return "torch's own, because it is written for this CPU's matrix units"
    return "torch's own, because in fp32 it is the fastest"
