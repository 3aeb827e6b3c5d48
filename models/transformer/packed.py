"""Attention over clips that stand one after the other in a row, in one kernel call.

Several libraries have such a kernel. Which one a device gets is found out once, by asking each for a small result and
comparing that with plain arithmetic: an installed library may lack a build for the card, or be wrong on it.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..transfer import sent

# (queries, keys, values, lengths of the clips, of their keys) -> (B, K, N, head_dim), as in `attend`
PackedKernel = Callable[[Tensor, Tensor, Tensor, Sequence[int], Sequence[int]], Tensor]
# Clips of this mean length or more keep a card busy one by one, so the faster kernel counts: on an H200 (torch 2.11),
# 12 clips of 390 to 3120 patches took torch's dense kernel 1.1 ms in 12 calls and varlen 1.5 ms in one.
LONG = 1024  # patches
TOLERANCE = 0.05  # bf16 sums of a few dozen numbers of size 1; a wrong clip is off by about 1
HALVES = (torch.float16, torch.bfloat16)


def varlen(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], key_lengths: Sequence[int]) -> Tensor:
    """torch's own flash attention over sequences of any length (torch.nn.attention.varlen, from torch 2.10 on)."""
    from torch.nn.attention.varlen import varlen_attn

    batch, row = q.shape[0], [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]  # (B * N, K, head_dim)
    ends, key_ends = (boundaries(tuple(sizes), batch, q.device) for sizes in (lengths, key_lengths))
    out: Any = varlen_attn(row[0], row[1], row[2], ends, key_ends, max(lengths), max(key_lengths))
    rows: Tensor = out.unflatten(0, (batch, -1)).transpose(1, 2)
    return rows


def xformers(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], key_lengths: Sequence[int]) -> Tensor:
    """xformers' memory-efficient attention with a block-diagonal mask."""
    from xformers.ops import memory_efficient_attention

    batch, row = q.shape[0], [x.transpose(1, 2).flatten(0, 1)[None] for x in (q, k, v)]  # (1, B * N, K, head_dim)
    bias = blocks_of_xformers(tuple(lengths), tuple(key_lengths), batch, q.device)
    out: Tensor = memory_efficient_attention(*row, attn_bias=bias)
    return out[0].unflatten(0, (batch, -1)).transpose(1, 2)


def flex(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], key_lengths: Sequence[int]) -> Tensor:
    """torch's flex attention with a mask of blocks; on a GPU it is compiled at its first call, by Triton."""
    attention = flex_attention_on(q.device)
    out: Tensor = attention(q, k, v, block_mask=blocks_of_flex(tuple(lengths), tuple(key_lengths), q.device))
    return out


PACKED: dict[str, PackedKernel] = {"varlen": varlen, "xformers": xformers, "flex": flex}
# in this order; flex is there for those who ask for it by name, for its first call compiles
CHOICES = ("varlen", "xformers")


class Choice(NamedTuple):
    """Which kernel a device got, "" for a call per clip, and why not the others."""

    name: str
    refused: dict[str, str]
    long_apart: bool = False  # whether torch's kernel for one dense row is faster, so that long clips get a call each


def takes(name: str, q: Tensor) -> bool:
    """Whether a kernel that works on a device works on queries (B, K, N, head_dim) like these."""
    whole = q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
    return name == "flex" or (whole and (name == "xformers" or q.dtype in HALVES))


@torch._disable_dynamo  # type: ignore[attr-defined] # torch.compiler.disable imports the compiler at once
def packed_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], key_lengths: Sequence[int]) -> Tensor:
    """Attention (B, K, N, head_dim) within each clip, by the device's kernel if it has one for queries like these.

    A compiled block leaves its graph for it: which kernel there is cannot be traced.
    """
    choice = chosen(q.device)
    apart = choice.long_apart and sum(key_lengths) >= LONG * len(key_lengths)
    kernel = PACKED[choice.name] if choice.name and takes(choice.name, q) and not apart else per_clip
    return kernel(q, k, v, lengths, key_lengths)


@cache
def chosen(device: torch.device) -> Choice:
    """The first of CHOICES that works on the device. Asked once per device and process."""
    refused: dict[str, str] = {}
    for name in CHOICES:
        refused[name] = refusal(name, device)
        if not refused[name]:
            others = {other: why for other, why in refused.items() if why}
            return Choice(name, others, slower_than_dense(name, device))
    return Choice("", refused)


@torch.inference_mode()
def slower_than_dense(name: str, device: torch.device) -> bool:
    """Whether a kernel takes longer over long clips than a call of torch's attention for each; timed on a GPU."""
    if device.type != "cuda":
        return False
    lengths = (4096,) * 4
    given = [torch.zeros(1, 8, sum(lengths), 128, device=device, dtype=torch.bfloat16) for _ in range(3)]
    packed, apart = (_seconds(kernel, given, lengths) for kernel in (PACKED[name], per_clip))
    return packed > apart


def _seconds(kernel: PackedKernel, given: Sequence[Tensor], lengths: Sequence[int]) -> float:
    """The least time of some calls, after one to warm up."""
    times = []
    for _ in range(4):
        torch.cuda.synchronize(given[0].device)
        begin = time.perf_counter()
        kernel(given[0], given[1], given[2], lengths, lengths)
        torch.cuda.synchronize(given[0].device)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def refusal(
    name: str, device: torch.device | str, dtype: torch.dtype = torch.bfloat16, *, gradients: bool = True
) -> str:
    """Why a kernel is of no use on a device, in a few words; "" when its result and its gradients are right."""
    if name == "xformers" and not importlib.util.find_spec("xformers"):
        return "is not installed"
    try:
        with torch.inference_mode(mode=False), torch.set_grad_enabled(gradients):  # a host asks in inference mode
            off = _error(PACKED[name], device, dtype)
    except Exception as error:
        return f"failed: {type(error).__name__}, {(str(error).splitlines() or [''])[0][:120]}"
    return "" if off <= TOLERANCE else f"is off by {off:.3g} on this device"


def _error(kernel: PackedKernel, device: torch.device | str, dtype: torch.dtype) -> float:
    """The largest difference of a kernel's result, and of its gradients if they are on, from those in fp32."""
    rng = torch.Generator().manual_seed(0)
    lengths, key_lengths = (24, 8, 40), (8, 3, 16)
    shapes = [(2, 2, sum(sizes), 64) for sizes in (lengths, key_lengths, key_lengths)]
    drawn = [torch.randn(*shape, generator=rng) for shape in shapes]
    found = _asked(kernel, [x.to(device, dtype) for x in drawn], lengths, key_lengths)
    wanted = _asked(per_clip, drawn, lengths, key_lengths)
    return max(float((one.cpu().float() - other).abs().max()) for one, other in zip(found, wanted, strict=True))


def _asked(kernel: PackedKernel, given: Sequence[Tensor], lengths: Sequence[int], keys: Sequence[int]) -> list[Tensor]:
    """A kernel's result, and its gradients by queries, keys and values where these are on."""
    inputs = [x.detach().requires_grad_(torch.is_grad_enabled()) for x in given]
    out = kernel(inputs[0], inputs[1], inputs[2], lengths, keys)
    if not torch.is_grad_enabled():
        return [out]
    return [out.detach(), *torch.autograd.grad(out.float().square().mean() * 100, inputs)]


def per_clip(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], key_lengths: Sequence[int]) -> Tensor:
    """A call of torch's attention for each clip."""
    clips = zip(
        q.split(list(lengths), dim=2), k.split(list(key_lengths), dim=2), v.split(list(key_lengths), dim=2), strict=True
    )
    return torch.cat([F.scaled_dot_product_attention(*clip) for clip in clips], dim=2)


# What kernels want to know of the clips is the same in every block of every step: kept for the last few rows of clips.


@lru_cache(maxsize=8)
def boundaries(lengths: tuple[int, ...], batch: int, device: torch.device) -> Tensor:
    """Where the clips of `batch` rows begin, and where the last one ends, int32 (B * clips + 1,)."""
    with torch.inference_mode(mode=False):  # a training run may be the next one to use it
        return sent(torch.tensor([0, *accumulate(lengths * batch)], dtype=torch.int32), device)


@lru_cache(maxsize=4)
def blocks_of_xformers(lengths: tuple[int, ...], key_lengths: tuple[int, ...], batch: int, device: torch.device) -> Any:
    """The clips of `batch` rows as xformers' mask."""
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    with torch.inference_mode(mode=False):
        made = BlockDiagonalMask.from_seqlens(list(lengths * batch), list(key_lengths * batch))
        moved = made.to(device) if hasattr(made, "to") else made
        return made if moved is None else moved  # older ones move themselves


@lru_cache(maxsize=4)
def blocks_of_flex(lengths: tuple[int, ...], key_lengths: tuple[int, ...], device: torch.device) -> Any:
    """The clips of a row as flex attention's mask."""
    from torch.nn.attention.flex_attention import create_block_mask

    def clip_of_each(sizes: tuple[int, ...]) -> Tensor:
        with torch.inference_mode(mode=False):
            return sent(torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)), device)

    clips, key_clips = clip_of_each(lengths), clip_of_each(key_lengths)

    def same(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return clips[query] == key_clips[key]

    return create_block_mask(same, None, None, sum(lengths), sum(key_lengths), device=str(device))


def forget_clips() -> None:
    """Let go of what lies on a device for the clips of past runs; it is made anew where it is asked for."""
    for kept in (boundaries, blocks_of_xformers, blocks_of_flex):
        kept.cache_clear()


@cache
def flex_attention_on(device: torch.device) -> Any:
    """flex_attention, compiled where that is worth it."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if device.type == "cpu" else torch.compile(flex_attention, dynamic=True)


def told(device: torch.device | str) -> str:
    """What was chosen for packed clips and why, in a line."""
    device = torch.device(device)
    if device.type == "cpu":
        return "a call per clip, because that is the fastest on CPUs"
    choice = chosen(device)
    others = "; ".join(f"{name} {why}" for name, why in choice.refused.items())
    if not choice.name:
        return f"a call per clip, because {others}"
    why = "it gave the right result here"
    if choice.long_apart:
        why += f", and a call per clip from {LONG} patches on, where torch's dense kernel is faster"
    return f"{choice.name} in one call, because {why}" + (f" ({others})" if others else "")
