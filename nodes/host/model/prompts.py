"""A CONDITIONING in which places of a video have prompts of their own.

Any model gets a conditioning per text, with core's mask over time and space: core runs the model for each of them and
mixes the answers by these masks. Our model can also get all texts at once, and each patch attends to its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ....models.tasks.prompts import BASE, contrasted
from .levels import is_ours
from .model import TEXT_LENGTHS, context_mask
from .text_shares import SHARES

MASK = "mask"  # core's entry of a conditioning
ANSWERS, ATTENTION = METHODS = ("mix answers", "attention")


def placed_prompts(
    model: Any,
    text_encoder: Any,
    shares: Mapping[str, Tensor],
    base: Any | None,
    method: str = ANSWERS,
    contrast: float = 0.0,
) -> tuple[Any, int]:
    """A conditioning for a MODEL, and how many there are in it: shares (T, H, W) by text, of `base` those of BASE.

    A single one that holds everywhere stays as it is. contrast: between mixed answers (tasks.prompts). ValueError for a
    base that was made for another size or by the other method, and for a method that the model does not have.
    """
    if method == ATTENTION and not is_ours(model):
        raise ValueError(f"`{ATTENTION}` by place is for this pack's model alone: set method to `{ANSWERS}`")
    own = {text: share for text, share in shares.items() if text != BASE and bool((share > 0).any())}
    rest = shares.get(BASE)
    parts = [] if base is None or rest is None or not bool((rest > 0).any()) else [(base, rest)]
    parts += [
        (text_encoder.encode_from_tokens_scheduled(text_encoder.tokenize(text)), share) for text, share in own.items()
    ]
    if len(parts) == 1:
        return parts[0][0], 1
    return (_attended(parts) if method == ATTENTION else _mixed(parts, contrast)), len(parts)


def _attended(parts: list[tuple[Any, Tensor]]) -> Any:
    """One entry that holds all texts, and which place attends to which."""
    contexts, masks, lengths, shares = [], [], [], []
    settings: dict[str, Any] = {}
    for conditioning, share in parts:
        if len(conditioning) != 1 or conditioning[0][1].get(MASK) is not None:
            raise ValueError(
                f"`{ATTENTION}` wants single prompts, not {len(conditioning)} with masks: use `{ANSWERS}` in all nodes "
                "of the chain"
            )
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


def _mixed(parts: list[tuple[Any, Tensor]], contrast: float) -> Any:
    """An entry for each text, with core's mask where it holds; below 0 where it is led away from."""
    entries = []
    weights = contrasted({str(index): share for index, (_, share) in enumerate(parts)}, contrast)
    for (conditioning, _), share in zip(parts, weights.values(), strict=True):
        for text, more in conditioning:
            if TEXT_LENGTHS in more and SHARES not in more:
                raise ValueError("`base` holds the prompts of packed clips: prompts over time are for one clip")
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
