"""Attention kernels side by side, for one dense row and for clips packed in a row."""

import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ....models.transformer.attention import matmul_attention, sdpa
from ....models.transformer.packed import PACKED, chosen, flex_attention_on, per_clip, refusal
from .measure import Card, Case, Found

Row = Callable[[Tensor, Tensor, Tensor], Tensor]
KINDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
PATCHES = (3120, 1560, 780, 390, 780, 1560)  # of the packed clips, twice over


def cases(card: Card) -> Iterable[Case]:
    """Packed clips first, since a kernel is chosen for them; dense rows at the 14B class's heads."""
    yield Case("chosen for packed clips", lambda: choice(card))
    for name in ("varlen", "xformers", "per clip"):
        yield from both(f"packed, {name}", lambda trained, name=name: packed(card, name, trained=trained))
    for name in DENSE:
        if name != "flex":
            yield from both(f"dense, {name}", lambda trained, name=name: dense(card, name, trained=trained))


def compiled_cases(card: Card) -> Iterable[Case]:
    """flex attention, which is compiled at its first call."""
    yield from both("packed, flex", lambda trained: packed(card, "flex", trained=trained), 60)
    yield from both("dense, flex", lambda trained: dense(card, "flex", trained=trained), 60)


def both(name: str, run: Callable[[bool], Found], limit: float = 20.0) -> Iterable[Case]:
    """Without gradients, and with them."""
    yield Case(name, lambda: run(False), limit)
    yield Case(f"{name}, with gradients", lambda: run(True), limit)


def choice(card: Card) -> Found:
    """Which kernel packed clips get, and why not others."""
    found = chosen(card.device)
    why = "; ".join(f"{name} {reason}" for name, reason in found.refused.items())
    return Found(None, "", note=f"{found.name or 'a call per clip'}{'; ' if why else ''}{why}")


def of_sdpa(kind: SDPBackend) -> Row:
    """torch's attention by one of its kernels."""

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(kind):
            return F.scaled_dot_product_attention(q, k, v)

    return run


def xformers_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """xformers, in its own layout."""
    from xformers.ops import memory_efficient_attention

    out: Tensor = memory_efficient_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    return out


def flash_attn_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The package flash-attn, in its own layout."""
    from flash_attn import flash_attn_func

    out: Tensor = flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    return out


def flex_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """flex attention without a mask."""
    out: Tensor = flex_attention_on(q.device)(q, k, v)
    return out


DENSE: dict[str, Row] = {
    "torch's choice": sdpa,
    **{name: of_sdpa(kind) for name, kind in KINDS.items()},
    "plain products": matmul_attention,
    "xformers": xformers_row,
    "flash_attn": flash_attn_row,
    "flex": flex_row,
}


def inputs(card: Card, count: int, heads: int, *, trained: bool) -> list[Tensor]:
    """Queries, keys and values (1, K, N, 128)."""
    shape = (1, *card.either((heads, count, 128), (2, count, 16)))
    form = torch.float32 if not card.cuda else card.half
    return [torch.randn(shape, device=card.device).to(form).requires_grad_(trained) for _ in range(3)]


def timed(card: Card, run: Callable[..., Tensor], given: list[Tensor], pairs: float) -> Found:
    """The share of the card's rate, for so many pairs of queries and keys."""
    trained = given[0].requires_grad

    def once() -> Any:
        out = run(*given)
        return torch.autograd.grad(out.sum(), given) if trained else out

    with torch.set_grad_enabled(trained):
        ms = card.milliseconds(once)
    heads, size = given[0].shape[1], given[0].shape[3]
    flops = 4 * pairs * heads * size * (3.5 if trained else 1)  # backward: five products for the two of forward
    return Found(card.share(flops, ms, card.half), "MFU", ms, f"{given[0].shape[2]} patches, {heads} heads of {size}")


def dense(card: Card, name: str, *, trained: bool) -> Found:
    """One row of 8192 patches."""
    if name in ("xformers", "flash_attn") and not importlib.util.find_spec(name):
        return Found(None, "", note=f"{name} is not installed")
    count = card.either(8192, 64)
    return timed(card, DENSE[name], inputs(card, count, 24, trained=trained), count**2)


def packed(card: Card, name: str, *, trained: bool) -> Found:
    """Clips of several sizes in a row."""
    lengths = card.either(PATCHES * 2, (8, 24, 16))
    if name != "per clip" and (why := refusal(name, card.device, gradients=trained)):
        return Found(None, "", note=f"{name} {why}", ok="installed" in why)
    kernel = PACKED.get(name, per_clip)
    given = inputs(card, sum(lengths), 24, trained=trained)
    found = timed(card, lambda q, k, v: kernel(q, k, v, lengths, lengths), given, sum(n**2 for n in lengths))
    return found._replace(note=f"{len(lengths)} clips, {found.note}")
