"""A training step on the same clips packed, padded and in a batch for each size. A part of the training benchmark."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...models.clips.cache import Example
from ...models.flow import PathPoint
from ...models.patches import Grid
from ...models.training.dit.batches import Batch, make_batch, pack_batches
from ...models.training.dit.losses import flow_loss
from ...models.training.dit.settings import DiTTraining
from ...models.training.dit.train import accumulated, batch_loss
from ...models.training.run.folder import generator
from ...models.transformer.attention import matmul_attention
from ...models.transformer.config import PRESETS
from ...models.transformer.dit import DiT
from .timing import by_turns

CLIPS = {(5, 8, 8): 4, (5, 8, 12): 3, (9, 12, 12): 2, (1, 12, 12): 4}  # latent frames, height, width: how many
ROUNDS = 3


def packing_rows(dtype: torch.dtype) -> Iterable[dict[str, Any]]:
    """The same clips in one row, padded to the largest, and in a batch for each size."""
    torch.manual_seed(0)
    model = DiT(PRESETS["toy"]).initialise().to(dtype)
    singles = clip_batches(CLIPS)
    packed = pack_batches(singles)
    buckets = [(batch, batch.count / len(singles)) for batch in by_size(singles)]
    padded, count = pad_batches(singles), len(singles)

    def run(loss: Callable[[], Tensor]) -> None:
        loss().backward()
        model.zero_grad(set_to_none=True)

    one, other, third = by_turns(
        [
            lambda: run(lambda: batch_loss(model, packed)),
            lambda: run(lambda: padded_loss(model, *padded)),
            lambda: (accumulated(model, buckets), model.zero_grad(set_to_none=True)),
        ],
        ROUNDS,
    )
    real, laid = packed.clean.shape[1], padded[0].clean.shape[0] * padded[0].clean.shape[1]
    note = f"{count} clips of {len(CLIPS)} sizes, toy preset, {str(dtype).removeprefix('torch.')}: {real} patches"
    yield {"name": "packed_padded", "ours": one, "reference": other, "ratio": other / one, "note": f"{note} of {laid}"}
    yield {"name": "packed_buckets", "ours": one, "reference": third, "ratio": third / one, "note": note}


def one_size_row(dtype: torch.dtype) -> dict[str, Any]:
    """Where all clips have one size, a batch of them does without packing."""
    torch.manual_seed(0)
    model = DiT(PRESETS["toy"]).initialise().to(dtype)
    size = next(iter(CLIPS))
    singles = clip_batches({size: 4 * CLIPS[size]})
    packed, (batch,) = pack_batches(singles), by_size(singles)

    def run(clips: Batch) -> None:
        batch_loss(model, clips).backward()
        model.zero_grad(set_to_none=True)

    one, other = by_turns([lambda: run(packed), lambda: run(batch)], ROUNDS)
    note = f"{len(singles)} clips of one size against one batch, toy preset, {str(dtype).removeprefix('torch.')}"
    return {"name": "packed_one_size", "ours": one, "reference": other, "ratio": other / one, "note": note}


def clip_batches(clips: Mapping[tuple[int, int, int], int]) -> list[Batch]:
    """Random clips of some sizes (latent frames, height, width: how many) with texts, each a batch of its own."""
    settings, empty = DiTTraining(region=0.0), torch.zeros(2, 384)
    sizes = [size for size, number in clips.items() for _ in range(number)]
    made = []
    for number, size in enumerate(sizes):
        rng = generator(1, number)
        latents, text = torch.randn(16, *size, generator=rng), torch.randn(12 + number, 384, generator=rng)
        made.append(make_batch([Example(latents, text)], empty, settings, rng, cyclic=False))
    return made


def by_size(singles: Sequence[Batch]) -> list[Batch]:
    """A batch for each size."""
    groups: dict[tuple[Grid, ...], list[Batch]] = {}
    for single in singles:
        groups.setdefault(single.grids, []).append(single)
    fields = ("clean", "noise", "sigma", "context", "mask")
    return [
        Batch(**{name: torch.cat([getattr(one, name) for one in group]) for name in fields}, grids=grids, cyclic=False)
        for grids, group in groups.items()
    ]


def pad_batches(singles: Sequence[Batch]) -> tuple[Batch, Tensor]:
    """All clips on the grid of the largest, and which patches are real (B, N); the others count as known."""
    whole = Grid(*(max(one.grids[0][axis] for one in singles) for axis in range(3)))

    def laid(values: Tensor, grid: Grid) -> Tensor:
        """Patches (1, N, ...) at their places of the large grid."""
        out = values.new_zeros(1, *whole, *values.shape[2:])
        out[:, : grid.frames, : grid.height, : grid.width] = values.unflatten(1, tuple(grid))
        return out.flatten(1, 3)

    parts = [
        [laid(v, one.grids[0]) for v in (one.clean, one.noise, one.levels(), torch.ones_like(one.levels()))]
        for one in singles
    ]
    clean, noise, sigma, real = (torch.cat(column) for column in zip(*parts, strict=True))
    context = torch.cat([one.context for one in singles])
    mask = torch.cat([one.mask for one in singles if one.mask is not None])
    return Batch(clean, noise, sigma, context, mask, (whole,), cyclic=False), real.bool()


def padded_loss(model: DiT, batch: Batch, real: Tensor) -> Tensor:
    """The loss of padded clips, whose attention leaves the padding out."""
    weight = next(model.parameters())
    point = PathPoint.between(batch.clean, batch.noise, batch.sigma)
    prepared = model.prepare(batch.grids, batch.context.to(weight.dtype), batch.mask)

    def kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        own = mask if k.shape[2] != q.shape[2] else real[:, None, None]
        return matmul_attention(q, k, v, own)

    prediction = model.forward_tokens(point.x.to(weight.dtype), batch.sigma, prepared, attention=kernel)
    return flow_loss(prediction, point)
