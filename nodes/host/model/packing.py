"""Several clips in one run of our model: a MODEL that knows their grids, and a conditioning with a prompt for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....models.patches import Grid, Patch
from .hosted_dit import GRIDS
from .levels import is_ours
from .model import TEXT_LENGTHS, context_mask
from .recommended import patch_of


def patch_of_ours(model: Any) -> Patch:
    """The patch (frames, height, width of latents) of our MODEL. ValueError for other models."""
    patch = patch_of(model) if is_ours(model) else None
    if patch is None:
        raise ValueError("only this pack's model can take several clips at once: run other models clip by clip")
    return patch


def packed_model(model: Any, grids: Sequence[Grid]) -> Any:
    """A clone of our MODEL that takes latents in which these clips are packed."""
    patched = model.clone()
    options = {**patched.model_options["transformer_options"], GRIDS: tuple(tuple(grid) for grid in grids)}
    patched.model_options["transformer_options"] = options
    return patched


def packed_prompts(first: Any, second: Any) -> Any:
    """One conditioning with the prompts of the clips before and that of the next one."""
    (before, settings), (after, more) = _only(first), _only(second)
    lengths = (*settings.get(TEXT_LENGTHS, (before.shape[1],)), after.shape[1])
    mask = torch.cat([_mask(before, settings), _mask(after, more)], dim=1)
    return [[torch.cat([before, after], dim=1), {**settings, "attention_mask": mask, TEXT_LENGTHS: lengths}]]


def _only(conditioning: Any) -> tuple[Tensor, dict[str, Any]]:
    if len(conditioning) != 1:
        raise ValueError(f"a prompt to pack must be a single one, not {len(conditioning)} combined")
    return conditioning[0][0], conditioning[0][1]


def _mask(context: Tensor, settings: dict[str, Any]) -> Tensor:
    return context_mask(context, settings.get("attention_mask"))[..., 0]
