"""Tasks in space and in strength: restyle, fill a region, outpaint."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool3d, max_pool3d, pad

from ..patches import DEFAULT_PATCH, Patch
from .canvas import Canvas, check_share, filled


def restyle(
    clip: Tensor, strength: float, region: Tensor | None = None, start: int = 0, stop: int | None = None
) -> Canvas:
    """Places may change by `strength` (SDEdit), in a region (B or 1, 1, T, H, W) and from latent start to stop."""
    check_share(strength, "the strength of a restyle")
    if strength == 0:
        raise ValueError("a restyle of strength 0 changes nothing: raise it (0.3 to 0.8 is usual)")
    length = clip.shape[2]
    stop = length if stop is None else stop
    if not 0 <= start < stop <= length:
        raise ValueError(f"latents {start} to {stop} are no time range of a clip of {length} latents")
    change = filled(clip, 0.0)
    change[:, :, start:stop] = strength
    return Canvas(clip, change if region is None else change * _region(clip, region))


def fill(clip: Tensor, region: Tensor) -> Canvas:
    """The region (B or 1, 1, T, H, W), 1 inside, is generated; the rest is kept."""
    chosen = _region(clip, region)
    if not bool((chosen > 0).any()):
        raise ValueError("the region to fill is empty: paint a mask that covers something")
    return Canvas(clip, chosen)


def outpaint(clip: Tensor, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, overlap: int = 0) -> Canvas:
    """New latents around a clip; `overlap` latents of its border next to them may change too."""
    sides = (left, right, top, bottom)
    if min(sides) < 0 or not any(sides):
        raise ValueError(f"outpaint by {left} left, {top} above, {right} right, {bottom} below: one must be above 0")
    if overlap < 0 or 2 * overlap >= min(clip.shape[-2:]):
        raise ValueError(
            f"an overlap of {overlap} latents leaves nothing of a clip of {tuple(clip.shape[-2:])} latents"
        )
    inner = filled(clip, 0.0)
    for size, axis, begin in ((left, 4, True), (right, 4, False), (top, 3, True), (bottom, 3, False)):
        if size and overlap:
            inner.narrow(axis, 0 if begin else inner.shape[axis] - overlap, overlap).fill_(1.0)
    return Canvas(pad(clip, sides), pad(inner, sides, value=1.0))


def region_of_pixels(mask: Tensor, latents: Tensor, frames_per_latent: int, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """A pixel mask (1 or F, height, width) as a region of latents (B, C, T, H, W): (1, 1, T, H, W) of zeros and ones.

    A patch counts as inside when any pixel of it does: half a patch cannot have a noise level of its own. The mask may
    have any size in space; in time it has one frame for all, or at least 1 + frames_per_latent (T - 1) frames.
    """
    if mask.ndim != 3 or min(mask.shape) == 0:
        raise ValueError(f"a mask is (frames, height, width), got {tuple(mask.shape)}")
    frames, height, width = latents.shape[2:]
    needed = 1 + frames_per_latent * (frames - 1)
    if len(mask) not in (1, needed) and len(mask) < needed:
        raise ValueError(f"a mask of {len(mask)} frames for a video of {needed} frames: give 1 or {needed}")
    marked = (mask > 0.5).float()[None, None]
    if len(mask) == 1:
        marked = marked.expand(-1, -1, frames, -1, -1)
    else:  # the first frame is a latent of its own
        held = marked[:, :, :1].expand(-1, -1, frames_per_latent - 1, -1, -1)
        blocks = torch.cat([held, marked[:, :, :needed]], dim=2)
        marked = max_pool3d(blocks, (frames_per_latent, 1, 1))
    cells = (-(-height // patch[1]), -(-width // patch[2]))
    coarse = adaptive_max_pool3d(marked, (frames, *cells))  # (1, 1, T, H / ph, W / pw)
    fine = coarse.repeat_interleave(patch[1], dim=3).repeat_interleave(patch[2], dim=4)
    return fine[..., :height, :width].to(latents)


def _region(clip: Tensor, region: Tensor) -> Tensor:
    if region.ndim != 5 or region.shape[1:] != (1, *clip.shape[2:]) or region.shape[0] not in (1, clip.shape[0]):
        raise ValueError(f"a region of shape {tuple(region.shape)} does not cover latents {tuple(clip.shape)}")
    return region.expand(clip.shape[0], -1, -1, -1, -1).to(clip)
