"""Core's noise masks."""

from __future__ import annotations

import comfy.utils
from torch import Tensor


def at_latent_size(mask: Tensor, latents: Tensor) -> Tensor:
    """Any noise_mask that core takes, as (B, 1, T, H, W) beside latents (B, C, T, H, W), resized as core does.

    ValueError for a mask with several channels: patches have one change level per place.
    """
    batch, _, *sizes = latents.shape
    try:
        fitted: Tensor = comfy.utils.reshape_mask(mask, (batch, 1, *sizes))
    except RuntimeError as error:
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} cannot cover latents of shape {tuple(latents.shape)}: "
            f"make it (frames, height, width) or ({batch}, 1, {', '.join(map(str, sizes))})"
        ) from error
    if fitted.shape[1] != 1:
        raise ValueError(f"the mask has {fitted.shape[1]} channels: patches take one, (B, 1, frames, height, width)")
    return fitted
