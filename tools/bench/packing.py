"""Several clips of different length and size in one denoising run, against separate runs and against padding.

Padding means what a batch needs: all clips on the grid of the longest, highest and widest. Each number is CPU time of a
run of some steps of our DiT in bf16, the ways taking turns; `difference` is the largest between packed and separate
clips in fp32, the latents having deviation 1.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...models.patches import Grid, Tokens, pack, patchify
from ...models.transformer.config import PRESETS
from ...models.transformer.dit import DiT
from .timing import paired

Size = tuple[int, int, int]  # latent frames, height and width
MIXES: dict[str, tuple[Size, ...]] = {
    "3 clips, like sizes": ((9, 12, 12), (7, 12, 12), (9, 10, 12)),
    "4 clips of several sizes": ((9, 12, 12), (5, 8, 16), (3, 8, 8), (1, 12, 12)),
    "one long, 5 short": ((9, 12, 12), *((2, 8, 8),) * 5),
    "8 images": ((1, 8, 8), (1, 8, 12), (1, 12, 8), (1, 12, 12)) * 2,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--preset", default="toy", choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per mix of clips."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DiT(PRESETS[options.preset]).eval().requires_grad_(False)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5 / max(weight.shape[-1], 1) ** 0.5)
    fast = DiT(PRESETS[options.preset]).to(torch.bfloat16).eval().requires_grad_(False)
    fast.load_state_dict(model.state_dict())
    for name, sizes in MIXES.items():
        yield row(name, sizes, model, fast, options.steps, options.rounds)


def row(name: str, sizes: Sequence[Size], exact: DiT, fast: DiT, steps: int, rounds: int) -> dict[str, Any]:
    """Times of one mix, and how far packed clips are from separate ones."""
    ways = {way: run(fast, sizes, steps) for way, run in RUNS.items()}
    one, separate = paired(ways["packed"], ways["separate"], rounds)
    again, padded = paired(ways["packed"], ways["padded"], rounds)
    together, alone = (RUNS[way](exact, sizes, steps)() for way in ("packed", "separate"))
    difference = max(float((a - b).abs().max()) for a, b in zip(together, alone, strict=True))
    return {
        "name": name,
        "clips": len(sizes),
        "patches": sum(_grid(size).num_tokens for size in sizes),
        "packed_s": one,
        "separate / packed": separate / one,
        "padded / packed": padded / again,
        "difference": difference,
    }


def _grid(size: Size) -> Grid:
    return Grid(size[0], size[1] // 2, size[2] // 2)


def clips(model: DiT, sizes: Sequence[Size]) -> list[Tokens]:
    """Noise of these sizes as patches."""
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(1, model.config.in_channels, *size, generator=generator) for size in sizes]
    return [patchify(one) for one in noise]


def texts(model: DiT, count: int) -> tuple[Tensor, Tensor]:
    """A prompt per clip, (count, 16, D), and its mask."""
    context = torch.randn(count, 16, model.config.context_dim, generator=torch.Generator().manual_seed(2))
    return context.to(next(model.parameters())), torch.ones(count, 16, dtype=torch.bool)


@torch.inference_mode()
def denoised(model: DiT, values: Tensor, prepared: Any, steps: int) -> Tensor:
    """Euler steps from noise, (B, N, P)."""
    levels = torch.linspace(1, 0, steps + 1)
    dtype = next(model.parameters()).dtype
    for level, below in pairwise(levels):
        sigma = level.expand(values.shape[0])
        velocity = model.forward_tokens(values.to(dtype), sigma, prepared).float()
        values = values + (below - level) * velocity[..., : values.shape[-1]]
    return values


def packed_run(model: DiT, sizes: Sequence[Size], steps: int) -> Callable[[], list[Tensor]]:
    """All clips in one row."""
    tokens, (context, mask) = pack(clips(model, sizes)), texts(model, len(sizes))

    @torch.inference_mode()
    def run() -> list[Tensor]:
        rows, lengths = context.flatten(0, 1)[None], (context.shape[1],) * len(sizes)
        prepared = model.prepare(tokens.grids, rows, mask.flatten()[None], context_lengths=lengths)
        out = denoised(model, tokens.values, prepared, steps)
        return list(out.split(list(tokens.lengths), dim=1))

    return run


def separate_runs(model: DiT, sizes: Sequence[Size], steps: int) -> Callable[[], list[Tensor]]:
    """One after the other."""
    each, (context, mask) = clips(model, sizes), texts(model, len(sizes))

    @torch.inference_mode()
    def run() -> list[Tensor]:
        out = []
        for index, tokens in enumerate(each):
            prepared = model.prepare(tokens.grids, context[index : index + 1], mask[index : index + 1])
            out.append(denoised(model, tokens.values, prepared, steps))
        return out

    return run


def padded_run(model: DiT, sizes: Sequence[Size], steps: int) -> Callable[[], list[Tensor]]:
    """One batch on the grid that holds each of them."""
    largest = tuple(max(size[axis] for size in sizes) for axis in range(3))
    noise = torch.randn(len(sizes), model.config.in_channels, *largest, generator=torch.Generator().manual_seed(1))
    tokens, (context, mask) = patchify(noise), texts(model, len(sizes))

    @torch.inference_mode()
    def run() -> list[Tensor]:
        prepared = model.prepare(tokens.grids, context, mask)
        return list(denoised(model, tokens.values, prepared, steps).split(1))

    return run


RUNS = {"packed": packed_run, "separate": separate_runs, "padded": padded_run}
