"""Several texts for one clip: how much each patch attends to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, pad

from ..patches import Grid, Patch

TOLERANCE = 1e-4  # of the sum of a patch's shares


class Share(NamedTuple):
    """The patches that attend to one text, and how much of their answer is this text's."""

    tokens: Tensor  # (n,) their numbers
    weight: Tensor  # (n,) above 0, 1 where it is the only text


Shares = tuple[Share, ...]


def patch_shares(shares: Tensor, patch: Patch) -> Tensor:
    """Shares of texts per latent, (R, T, H, W), as shares per patch (R, N): the mean over the patch."""
    missing = [-size % side for size, side in zip(shares.shape[-3:], patch, strict=True)]
    if any(missing):
        shares = pad(shares[None], (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")[0]
    return avg_pool3d(shares, patch).flatten(1)


def split_shares(shares: Tensor, lengths: Sequence[int], grid: Grid, device: torch.device | str) -> Shares:
    """Shares (R, N) text by text, without the patches that have none of it. ValueError where they do not fit."""
    if shares.shape != (len(lengths), grid.num_tokens):
        raise ValueError(
            f"shares of shape {tuple(shares.shape)} for {len(lengths)} texts and {grid.num_tokens} patches: "
            "prompts over time belong to the size and length of the video that they were made for"
        )
    if bool((shares < 0).any()) or bool(((shares.sum(dim=0) - 1).abs() > TOLERANCE).any()):
        raise ValueError("the shares of a patch in its texts must not be negative, and must add up to 1")
    indices = [(row > 0).nonzero()[:, 0] for row in shares]
    return tuple(Share(index.to(device), row[index].to(device)) for index, row in zip(indices, shares, strict=True))


def mixed(each: Sequence[Tensor], shares: Tensor, grid: Grid) -> Tensor:
    """One vector (B, D) per text mixed by shares (R, N): (B, T, D) where whole frames share alike, else (B, N, D)."""
    frames = shares.unflatten(1, (grid.frames, -1))  # (R, T, patches)
    if bool((frames == frames[..., :1]).all()):
        shares = frames[..., 0]
    weights = shares.to(each[0])
    first, *rest = each
    total = weights[0, :, None] * first[:, None]
    for weight, vector in zip(weights[1:], rest, strict=True):
        total = total + weight[:, None] * vector[:, None]
    return total
