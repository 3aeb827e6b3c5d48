"""What a training step asks of the DiT: noise levels per patch, and the flow-matching loss.

Half of the batches share one level per clip; in the others every latent frame has its own (diffusion forcing,
arXiv 2407.01392) or some frames or a region are known (level 0). So one model learns generation and every editing task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...flow import PathPoint
from ...patches import Grid

Shape = tuple[int, int, int]  # a clip's patch grid: frames, height, width


def sample_sigmas(
    count: int, rng: torch.Generator, *, mean: float = 0.4, std: float = 1.0, uniform: float = 0.1
) -> Tensor:
    """Noise levels (count,) in (0, 1): logit-normal (arXiv 2403.03206, eq. 19), a tenth of them uniform."""
    normal = torch.sigmoid(mean + std * torch.randn(count, generator=rng))
    flat = torch.rand(count, generator=rng)
    return torch.where(torch.rand(count, generator=rng) < uniform, flat, normal)


def sample_levels(count: int, grid: Shape, rng: torch.Generator) -> Tensor:
    """Noise levels (count, frames) of a batch of clips; 0 marks known frames.

    Per clip: 50% one level, 20% a level per frame, 30% one level with known frames at the start, the end or both.
    """
    frames = grid[0]
    levels = sample_sigmas(count, rng)[:, None].repeat(1, frames)
    if frames == 1:
        return levels
    choice = torch.rand(count, 1, generator=rng)
    each = sample_sigmas(count * frames, rng).view(count, frames)
    partly = torch.where(choice < 0.5, levels * _unknown(count, frames, rng), levels)
    return torch.where(choice < 0.2, each, partly)


def _unknown(count: int, frames: int, rng: torch.Generator) -> Tensor:
    """1 for frames to generate (at least one), 0 for known ones, (count, frames): each clip knows its first frame,
    a head, a tail, or both ends."""
    kind = torch.rand(count, 1, generator=rng)
    cut = torch.randint(1, frames, (count, 1), generator=rng)
    head = torch.randint(1, max(frames // 2, 1) + 1, (count, 1), generator=rng)
    frame = torch.arange(frames)
    ends = (frame < head.clamp(max=frames - 2)) | (frame == frames - 1)
    known = torch.where(kind < 0.4, frame < 1, torch.where(kind < 0.6, frame < cut, ends))
    known = torch.where((kind >= 0.6) & (kind < 0.8), frame >= frames - cut, known)
    return (~known).float()


def sample_region(grid: Shape, rng: torch.Generator) -> Tensor:
    """A box of unknown patches in space, the same in all frames: (N,) with 1 inside and 0 outside, or the reverse."""
    _, height, width = grid
    y, x = (torch.randint(size, (2,), generator=rng).sort().values.tolist() for size in (height, width))
    region = torch.zeros(grid)
    region[:, y[0] : y[1] + 1, x[0] : x[1] + 1] = 1
    flat = region.flatten()
    return 1 - flat if float(torch.rand(1, generator=rng)) < 0.3 and not flat.all() else flat


def flow_loss(prediction: Tensor, point: PathPoint, lengths: Sequence[int] = ()) -> Tensor:
    """Squared error of a prediction (B, N, P) of a point on the path, over the patches that are not known.

    The mean of each clip, then over clips. lengths: patches of each of several clips packed in a row.
    """
    error, unknown = point.error(prediction).square().mean(dim=-1), point.unknown  # (B, N)
    parts = [error.shape[1]] if len(lengths) < 2 else list(lengths)
    clips = zip((error * unknown).split(parts, dim=1), unknown.split(parts, dim=1), strict=True)
    return torch.stack([wrong.sum(dim=1) / counted.sum(dim=1).clamp(min=1) for wrong, counted in clips]).mean()


def steadiness_loss(prediction: Tensor, point: PathPoint, grids: Sequence[Grid], *, cyclic: bool) -> Tensor:
    """Squared change of the prediction's error from each frame of patches to the next; known patches have no error.

    A positive quadratic form of the error like flow_loss, so the best prediction is the same; a model that cannot reach
    it errs alike in neighbouring frames, and little beside known ones. grids: one for all rows, or those of packed
    clips. The mean of each clip over pairs of patches of which one is unknown, then over clips.
    """
    unknown = point.unknown
    error = point.error(prediction) * unknown[..., None]
    lengths = [grid.num_tokens for grid in grids]
    losses = []
    for grid, *parts in zip(grids, error.split(lengths, dim=1), unknown.split(lengths, dim=1), strict=True):
        wrong, free = (part.unflatten(1, (grid.frames, -1)) for part in parts)
        if cyclic and grid.frames > 1:
            wrong, free = (torch.cat([part, part[:, :1]], dim=1) for part in (wrong, free))
        change = wrong.diff(dim=1).square().mean(dim=-1).flatten(1)  # (B, pairs)
        counted = torch.maximum(free[:, 1:], free[:, :-1]).flatten(1)
        losses.append((change * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1))
    return torch.stack(losses).mean()
