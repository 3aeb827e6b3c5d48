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

from ...models.geometry import Frames
from ...models.tasks.canvas import Canvas, filled
from .. import sockets
from .sounding import as_nested, at_sound_size, nested_pair, sound_latents, track_of

SAMPLES, MASK = "samples", "noise_mask"
OPEN = "spacetime_open"  # entry of a LATENT: (samples, noise_mask) as the last task node made them, then of the sound


def content(latent: Mapping[str, Any]) -> Tensor:
    """The samples of any LATENT: video (B, C, T, H, W), images (B, C, H, W), or several nested streams."""
    samples: Tensor | None = latent.get(SAMPLES) if isinstance(latent, Mapping) else None
    if samples is None or not hasattr(samples, "shape"):
        raise ValueError(f"a latent holds samples, this is {type(latent).__name__}: connect a LATENT output")
    return samples


def samples_of(latent: Mapping[str, Any]) -> Tensor:
    """The samples (B, C, T, H, W) of a video, of its picture where it has sound too. ValueError for images."""
    samples, _ = nested_pair(content(latent))
    if samples.ndim != 5:
        raise ValueError(
            f"this latent has shape {tuple(samples.shape)}, which is no video: use Empty Video or a video VAE Encode, "
            "which give (batch, channels, frames, height, width)"
        )
    return samples


def sound_of(latent: Mapping[str, Any]) -> Tensor | None:
    """The latents of a video's sound, as its family lays them out; None where it has none."""
    return nested_pair(content(latent))[1]


def picture_alone(latent: Mapping[str, Any], what: str) -> None:
    """ValueError for a latent with sound, in a sentence that begins with what cannot be done."""
    if sound_of(latent) is not None:
        raise ValueError(f"{what} takes pictures alone: leave the sound out with core's Separate AV Latent")


def mask_of(latent: Mapping[str, Any]) -> Tensor | None:
    """The noise mask of a video at the size of its samples, (B, 1, T, H, W); None where it has none."""
    mask = nested_pair(latent.get(MASK))[0]
    return None if mask is None else at_latent_size(mask, samples_of(latent))


def sound_mask_of(latent: Mapping[str, Any]) -> Tensor | None:
    """The noise mask of a video's sound as (B, 1, T, F, 1); None where there is no mask, ones where it is not in it."""
    sound = sound_of(latent)
    if sound is None or latent.get(MASK) is None:
        return None
    return at_sound_size(nested_pair(latent[MASK])[1], samples_of(latent), sound)


def entries_of(latent: Mapping[str, Any]) -> dict[str, Any]:
    """All entries but samples and mask."""
    return {name: value for name, value in latent.items() if name not in (SAMPLES, MASK)}


def made(
    samples: Tensor,
    mask: Tensor | None = None,
    entries: Mapping[str, Any] | None = None,
    *,
    sound: Tensor | None = None,
    sound_mask: Tensor | None = None,
) -> dict[str, Any]:
    """A LATENT of samples, with its mask and other entries where it has any.

    sound, sound_mask: (B, C, T, F, 1) and (B, 1, T, F, 1), laid out as the family takes them, both streams in one.
    """
    if sound is not None:
        samples, mask = as_nested(samples, mask, sound, sound_mask)
    return {**(entries or {}), SAMPLES: samples} | ({} if mask is None else {MASK: mask})


def empty(*shape: int) -> Tensor:
    """Zeros where the host keeps latents between nodes, which is the GPU where it was told so."""
    return torch.zeros(shape, device=comfy.model_management.intermediate_device())


def canvas_of(
    latent: Mapping[str, Any],
    unmarked: float = 0.0,
    *,
    again: bool = False,
    fps: float | None = None,
    time: Frames | None = None,
) -> Canvas:
    """What a task starts from: the clip, what is still to be generated of it, and all that it carries.

    unmarked: the change level of a clip without a mask. One of zeros throughout is empty and has level 1.
    again: what has been generated is to be generated once more.
    fps, time: frames per second and which frames the latents stand for, by which sound follows the picture.
    ValueError for packed clips, and where a task's latent was resized, since then nothing tells whether it was sampled.
    """
    samples, mask, sound = samples_of(latent), mask_of(latent), sound_of(latent)
    if sockets.GRIDS in latent:
        raise ValueError("this latent holds several packed clips: take them apart with Split Clips first")
    opened = (again or is_open(latent), again or is_open(latent, of_sound=True)) if mask is not None else (True, True)
    change = _marked(samples, None if mask is None else mask * float(opened[0]), unmarked)
    entries = {name: value for name, value in entries_of(latent).items() if name not in (OPEN, sockets.LOOP)}
    canvas = Canvas(samples, change, bool(latent.get(sockets.LOOP)), entries, time)
    if sound is None:
        return canvas
    heard = sound_latents(samples, sound)
    own = sound_mask_of(latent)
    level = _marked(heard, None if own is None else own * float(opened[1]), unmarked)
    return track_of(canvas, heard, level, fps)


def _marked(latents: Tensor, mask: Tensor | None, unmarked: float) -> Tensor:
    """The change level of latents: their mask, or one level throughout."""
    if mask is None:
        return filled(latents, unmarked if bool(latents.any()) else 1.0)
    return mask.to(latents)


def latent_of(canvas: Canvas) -> dict[str, Any]:
    """A core LATENT with noise_mask, for any sampler."""
    loop = {sockets.LOOP: True} if canvas.cyclic else {}
    track = canvas.sound
    heard = () if track is None else (track.latents, track.change)
    opened = {OPEN: (canvas.latents, canvas.change, *heard)}
    return made(
        canvas.latents,
        canvas.change,
        {**canvas.entries, **loop, **opened},
        sound=None if track is None else track.latents,
        sound_mask=None if track is None else track.change,
    )


def known_clip(latent: Mapping[str, Any], task: str, *, fps: float | None = None, time: Frames | None = None) -> Canvas:
    """A clip of which nothing is left to generate, of its sound neither. ValueError says how to get there."""
    canvas = canvas_of(latent, fps=fps, time=time)
    changes = {"clip": canvas.change} | ({} if canvas.sound is None else {"clip's sound": canvas.sound.change})
    for what, change in changes.items():
        missing = float((change > 0).float().mean())
        if missing:
            raise ValueError(f"{missing:.0%} of this {what} is still to be generated: sample it before you {task} it")
    return canvas


def is_open(latent: Mapping[str, Any], *, of_sound: bool = False) -> bool:
    """Whether the places of a LATENT's mask are still to be generated; a mask of another node always says so."""
    if OPEN not in latent or len(latent[OPEN]) < 2 + 2 * of_sound:
        return True
    samples, mask = latent[OPEN][2:] if of_sound else latent[OPEN][:2]
    if of_sound:
        sound = sound_of(latent)
        if sound is None:
            return True
        now, now_mask = sound_latents(samples_of(latent), sound), sound_mask_of(latent)
    else:
        now, now_mask = samples_of(latent), nested_pair(latent[MASK])[0]
    if now_mask is None or not _holds(now_mask, mask):  # another node has said anew what may change
        return True
    if samples.shape[1:] != now.shape[1:]:
        raise ValueError(
            f"these latents {tuple(now.shape)} were resized since a task node made their mask for "
            f"{tuple(samples.shape)}, so nothing tells whether they have been sampled: resize before the task node, or "
            "say with Set Latent Noise Mask what is still to be generated (an empty mask: nothing)"
        )
    return _holds(now, samples)


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
