"""A CONDITIONING in which places of a video have prompts of their own.

Our model gets all texts at once, and each patch attends to its own. Other models get a conditioning per text, with
core's mask over time and space: core runs the model for each of them and mixes the answers by these masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ....models.tasks.prompts import BASE
from .levels import is_ours
from .model import TEXT_LENGTHS, context_mask
from .text_shares import SHARES

MASK = "mask"  # core's entry of a conditioning


def placed_prompts(model: Any, text_encoder: Any, shares: Mapping[str, Tensor], base: Any | None) -> tuple[Any, int]:
    """A conditioning for a MODEL, and how many there are in it: shares (T, H, W) by text, of `base` those of BASE.

    A single one that holds everywhere stays as it is. ValueError for a base that was made for another size.
    """
    own = {text: share for text, share in shares.items() if text != BASE and bool((share > 0).any())}
    rest = shares.get(BASE)
    parts = [] if base is None or rest is None or not bool((rest > 0).any()) else [(base, rest)]
    parts += [
        (text_encoder.encode_from_tokens_scheduled(text_encoder.tokenize(text)), share) for text, share in own.items()
    ]
    if len(parts) == 1:
        return parts[0][0], 1
    return (_for_ours(parts) if is_ours(model) else _for_others(parts)), len(parts)


def _for_ours(parts: list[tuple[Any, Tensor]]) -> Any:
    contexts, masks, lengths, shares = [], [], [], []
    settings: dict[str, Any] = {}
    for conditioning, share in parts:
        if len(conditioning) != 1:
            raise ValueError(f"a prompt of this model must be a single one, not {len(conditioning)} combined")
        context, more = conditioning[0]
        held = more.get(SHARES)
        if held is None and TEXT_LENGTHS in more:
            raise ValueError("`base` holds the prompts of packed clips: prompts over time are for one clip")
        if held is not None:
            _check_size(held, share)
        contexts.append(context)
        masks.append(context_mask(context, more.get("attention_mask"))[..., 0])
        lengths += more.get(TEXT_LENGTHS, (context.shape[1],))
        shares.append(share[None] if held is None else held * share)
        settings = settings or dict(more)
    joined = {"attention_mask": torch.cat(masks, dim=1), TEXT_LENGTHS: tuple(lengths), SHARES: torch.cat(shares)}
    return [[torch.cat(contexts, dim=1), {**settings, **joined}]]


def _for_others(parts: list[tuple[Any, Tensor]]) -> Any:
    entries = []
    for conditioning, share in parts:
        for text, more in conditioning:
            mask = share[None]
            if more.get(MASK) is not None:
                _check_size(more[MASK], share)
                mask = more[MASK].to(mask) * mask
            set_here = {MASK: mask, "set_area_to_bounds": False, "mask_strength": more.get("mask_strength", 1.0)}
            entries.append([text, {**more, **set_here}])
    return entries


def _check_size(held: Tensor, share: Tensor) -> None:
    """ValueError unless masks or shares (R, T, H, W) are of the size of these (T, H, W)."""
    if held.shape[1:] != share.shape:
        raise ValueError(
            f"`base` says where it holds for latents of {tuple(held.shape[1:])}, and this video has "
            f"{tuple(share.shape)}: make both with Prompt Over Time for the same latent"
        )
