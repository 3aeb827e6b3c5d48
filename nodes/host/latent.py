"""Core's LATENT: the one place of the pack that reads one and makes one, so that what it carries is never lost.

A LATENT is a dict: `samples`, perhaps `noise_mask`, and whatever entries nodes put beside them. Samplers hand on the
mask as it came, so a mask alone does not tell whether its places have been generated since. Task nodes therefore keep
the content that their mask was made for (OPEN): while the samples are still these, the places are still to be
generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...models.tasks.canvas import Canvas
from .. import sockets

SAMPLES, MASK = "samples", "noise_mask"
OPEN = "spacetime_open"  # entry of a LATENT: (samples, noise_mask) as the last task node made them


def content(latent: Mapping[str, Any]) -> Tensor:
    """The samples of any LATENT: video (B, C, T, H, W), images (B, C, H, W), or several nested streams."""
    samples: Tensor | None = latent.get(SAMPLES) if isinstance(latent, Mapping) else None
    if samples is None or not hasattr(samples, "shape"):
        raise ValueError(f"a latent holds samples, this is {type(latent).__name__}: connect a LATENT output")
    return samples


def samples_of(latent: Mapping[str, Any]) -> Tensor:
    """The samples (B, C, T, H, W) of a video. ValueError for images and for sound and video in one."""
    samples = content(latent)
    if getattr(samples, "is_nested", False):
        raise ValueError("this latent holds sound and video in one: separate them and use the video")
    if samples.ndim != 5:
        raise ValueError(
            f"this latent has shape {tuple(samples.shape)}, which is no video: use Empty Video or a video VAE Encode, "
            "which give (batch, channels, frames, height, width)"
        )
    return samples


def mask_of(latent: Mapping[str, Any]) -> Tensor | None:
    """The noise mask of a video at the size of its samples, (B, 1, T, H, W); None where it has none."""
    mask = latent.get(MASK)
    return None if mask is None else at_latent_size(mask, samples_of(latent))


def entries_of(latent: Mapping[str, Any]) -> dict[str, Any]:
    """All entries but samples and mask."""
    return {name: value for name, value in latent.items() if name not in (SAMPLES, MASK)}


def made(samples: Tensor, mask: Tensor | None = None, entries: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A LATENT of samples, with its mask and other entries where it has any."""
    return {**(entries or {}), SAMPLES: samples} | ({} if mask is None else {MASK: mask})


def empty(*shape: int) -> Tensor:
    """Zeros where the host keeps latents between nodes, which is the GPU where it was told so."""
    return torch.zeros(shape, device=comfy.model_management.intermediate_device())


def canvas_of(latent: Mapping[str, Any], unmarked: float = 0.0, *, again: bool = False) -> Canvas:
    """What a task starts from: the clip, what is still to be generated of it, and all that it carries.

    unmarked: the change level of a clip without a mask. One of zeros throughout is empty and has level 1.
    again: what has been generated is to be generated once more.
    ValueError for packed clips, and where a task's latent was resized, since then nothing tells whether it was sampled.
    """
    samples, mask = samples_of(latent), mask_of(latent)
    if sockets.GRIDS in latent:
        raise ValueError("this latent holds several packed clips: take them apart with Split Clips first")
    if mask is None:
        level = unmarked if bool(samples.any()) else 1.0
        canvas = Canvas.of(samples, level)
    else:
        canvas = Canvas(samples, mask.to(samples) * float(again or is_open(latent)))
    entries = {name: value for name, value in entries_of(latent).items() if name not in (OPEN, sockets.LOOP)}
    return Canvas(canvas.latents, canvas.change, bool(latent.get(sockets.LOOP)), entries)


def latent_of(canvas: Canvas) -> dict[str, Any]:
    """A core LATENT with noise_mask, for any sampler."""
    loop = {sockets.LOOP: True} if canvas.cyclic else {}
    opened = {OPEN: (canvas.latents, canvas.change)}
    return made(canvas.latents, canvas.change, {**canvas.entries, **loop, **opened})


def known_clip(latent: Mapping[str, Any], task: str) -> Canvas:
    """A clip of which nothing is left to generate. ValueError says how to get there."""
    canvas = canvas_of(latent)
    missing = float((canvas.change > 0).float().mean())
    if missing:
        raise ValueError(f"{missing:.0%} of this clip is still to be generated: sample it before you {task} it")
    return canvas


def is_open(latent: Mapping[str, Any]) -> bool:
    """Whether the places of a LATENT's mask are still to be generated; a mask of another node always says so."""
    if OPEN not in latent:
        return True
    samples, mask = latent[OPEN]
    if not _holds(latent[MASK], mask):  # another node has said anew what may change
        return True
    if samples.shape[1:] != content(latent).shape[1:]:
        raise ValueError(
            f"these latents {tuple(content(latent).shape)} were resized since a task node made their mask for "
            f"{tuple(samples.shape)}, so nothing tells whether they have been sampled: resize before the task node, or "
            "say with Set Latent Noise Mask what is still to be generated (an empty mask: nothing)"
        )
    return _holds(content(latent), samples)


def _holds(batch: Tensor, earlier: Tensor) -> bool:
    """Whether any item of a batch is one of an earlier batch: batches get cut, repeated and moved to other devices."""
    if batch is earlier:
        return True
    if batch.shape[1:] != earlier.shape[1:]:
        return False
    return any(torch.equal(one, other) for one in batch for other in earlier.to(batch))


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
