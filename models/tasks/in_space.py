"""Tasks in space and in strength: restyle, fill a region, outpaint."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool3d, max_pool3d

from ..geometry import Frames, frame_of
from ..patches import DEFAULT_PATCH, Patch
from .canvas import Canvas, check_share, filled

PIXELS_PER_LATENT = (8, 16, 32)  # of ours and most, of Wan 2.2 5B, of LTX-Video


def restyle(
    clip: Tensor | Canvas, strength: float, region: Tensor | None = None, start: int = 0, stop: int | None = None
) -> Canvas:
    """Places may change by `strength` (SDEdit), in a region (B or 1, 1, T, H, W) and from latent start to stop."""
    check_share(strength, "the strength of a restyle")
    if strength == 0:
        raise ValueError("a restyle of strength 0 changes nothing: raise it (0.3 to 0.8 is usual)")
    given = Canvas.of(clip)
    stop = given.length if stop is None else stop
    if not 0 <= start < stop <= given.length:
        raise ValueError(f"latents {start} to {stop} are no time range of a clip of {given.length} latents")
    change = filled(given.latents, 0.0)
    change[:, :, start:stop] = strength
    return given.freed(change if region is None else change * _region(given, region))


def fill(clip: Tensor | Canvas, region: Tensor) -> Canvas:
    """The region (B or 1, 1, T, H, W), 1 inside, is generated; the rest is kept."""
    given = Canvas.of(clip)
    chosen = _region(given, region)
    if not bool((chosen > 0).any()):
        raise ValueError("the region to fill is empty: paint a mask that covers something")
    return given.freed(chosen)


def outpaint(
    clip: Tensor | Canvas, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, overlap: int = 0
) -> Canvas:
    """New latents around a clip; `overlap` latents of its border next to them may change too."""
    sides = (left, right, top, bottom)
    given = Canvas.of(clip)
    if min(sides) < 0 or not any(sides):
        raise ValueError(f"outpaint by {left} left, {top} above, {right} right, {bottom} below: one must be above 0")
    if overlap < 0 or 2 * overlap >= min(given.latents.shape[-2:]):
        raise ValueError(
            f"an overlap of {overlap} latents leaves nothing of a clip of {tuple(given.latents.shape[-2:])} latents"
        )
    inner = filled(given.latents, 0.0)
    for size, axis, begin in ((left, 4, True), (right, 4, False), (top, 3, True), (bottom, 3, False)):
        if size and overlap:
            inner.narrow(axis, 0 if begin else inner.shape[axis] - overlap, overlap).fill_(1.0)
    return given.freed(inner).grown(sides)


def region_of_pixels(mask: Tensor, clip: Tensor | Canvas, time: int | Frames, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """A pixel mask (1 or F, height, width) as a region of a clip (B, C, T, H, W): (1, 1, T, H, W) of zeros and ones.

    A patch counts as inside when any pixel of it does: half a patch cannot have a noise level of its own. A mask of
    the size of the clip's source is cropped as that was (like_video), one of another size covers the whole picture; in
    time it has one frame for all, or as many as the clip. time: which frames its latents stand for, or frames of each.
    """
    if mask.ndim != 3 or min(mask.shape) == 0:
        raise ValueError(f"a mask is (frames, height, width), got {tuple(mask.shape)}")
    given = Canvas.of(clip)
    frames, height, width = given.latents.shape[2:]
    begins = [frame_of(latent, time, cyclic=given.cyclic) for latent in range(frames + 1)]
    needed = begins[-1]
    if len(mask) not in (1, needed) and len(mask) < needed:
        raise ValueError(f"a mask of {len(mask)} frames for a video of {needed} frames: give 1 or {needed}")
    marked = (like_video(mask, height, width) > 0.5).float()[None, None]
    if len(mask) == 1:
        marked = marked.expand(-1, -1, frames, -1, -1)
    else:
        marked = torch.stack([marked[:, :, a:b].amax(dim=2) for a, b in pairwise(begins)], dim=2)
    touched = adaptive_max_pool3d(marked, (frames, height, width))
    coarse = max_pool3d(touched, (1, *patch[1:]), ceil_mode=True)  # (1, 1, T, H / ph, W / pw)
    fine = coarse.repeat_interleave(patch[1], dim=3).repeat_interleave(patch[2], dim=4)
    return fine[..., :height, :width].to(given.latents)


def like_video(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (F, H, W) of the size of a video's source, cut as the video was to fit latents of height x width.

    Encoding keeps the middle, in whole patches of two latents of 8, 16 or 32 pixels; so a mask that is larger than the
    video by less than a patch is one of its source. Others come back as they are.
    """
    for pixels in PIXELS_PER_LATENT:
        over = mask.shape[1] - height * pixels, mask.shape[2] - width * pixels
        if all(0 <= more < 2 * pixels for more in over):
            top, left = over[0] // 2, over[1] // 2
            return mask[:, top : top + height * pixels, left : left + width * pixels]
    return mask


def _region(clip: Canvas, region: Tensor) -> Tensor:
    latents = clip.latents
    if region.ndim != 5 or region.shape[1:] != (1, *latents.shape[2:]) or region.shape[0] not in (1, latents.shape[0]):
        raise ValueError(f"a region of shape {tuple(region.shape)} does not cover latents {tuple(latents.shape)}")
    return region.expand(latents.shape[0], -1, -1, -1, -1).to(latents)
