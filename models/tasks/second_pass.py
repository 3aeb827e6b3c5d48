"""A second pass: a clip made larger, or with more frames, as latents, and denoised again from a lower level."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..patches import DEFAULT_PATCH, Patch
from .canvas import Canvas, filled
from .tiles import Tiling

LARGEST = 8.0


def enlarge(
    clip: Tensor | Canvas,
    scale: float = 1.0,
    slower: int = 1,
    region: Tensor | None = None,
    patch: Patch = DEFAULT_PATCH,
    larger: Tensor | None = None,
) -> Canvas:
    """A clip of `scale` times the height and width, in whole patches, and of `slower` times the latents, to be changed.

    The first latent stands for a single frame and stays one: 1 + n latents become 1 + slower * n; a loop's n become
    slower * n. region (B or 1, 1, T, H, W) of the clip that comes in: only there it may change. larger: the latents of
    its enlarged frames, to be used instead of enlarged latents. ValueError for a scale below 1 or above LARGEST.
    """
    given = Canvas.of(clip)
    if not 1 <= scale <= LARGEST or slower < 1:
        raise ValueError(f"a scale of {scale:g} and {slower} times the frames: use 1 to {LARGEST:g}, and 1 or more")
    wide = in_space(given.latents, scale, patch) if larger is None else larger
    latents = in_time(wide, slower, cyclic=given.cyclic)
    change = filled(latents, 1.0)
    if region is not None:
        chosen = in_time(in_space(region.to(latents), scale, patch), slower, cyclic=given.cyclic)
        change = (chosen > 0.5).to(latents).expand_as(change).contiguous()
        if not bool(change.any()):
            raise ValueError("the mask is empty, so nothing would be made finer: paint what shall")
    return replace(given, latents=latents, change=change)


def larger_size(latents: Tensor, scale: float, patch: Patch = DEFAULT_PATCH) -> tuple[int, int]:
    """Height and width of latents (B, C, T, H, W) times a scale, to the nearest whole patch."""
    pairs = zip(latents.shape[-2:], patch[1:], strict=True)
    height, width = (max(1, math.floor(length * scale / side + 0.5)) * side for length, side in pairs)
    return height, width


def in_space(latents: Tensor, scale: float, patch: Patch) -> Tensor:
    """Latents (B, C, T, H, W) of `scale` times the height and width; bicubic."""
    size = larger_size(latents, scale, patch)
    if size == tuple(latents.shape[-2:]):
        return latents
    frames = latents.transpose(1, 2).flatten(0, 1)
    large = interpolate(frames.float(), size=size, mode="bicubic", align_corners=False)
    return large.unflatten(0, (latents.shape[0], -1)).transpose(1, 2).to(latents)


def in_time(latents: Tensor, slower: int, *, cyclic: bool = False) -> Tensor:
    """Latents (B, C, T, H, W) with `slower` times as many after the first; a loop's all, round the circle."""
    if slower == 1:
        return latents
    head = latents[:, :, : 0 if cyclic else 1]
    rest = latents[:, :, head.shape[2] :]
    if not rest.shape[2]:
        return latents
    before, after = (rest[:, :, -1:], rest[:, :, :1]) if cyclic else (rest[:, :, :1], rest[:, :, -1:])
    around = torch.cat([before, rest, after], dim=2)
    places = (torch.arange(slower * rest.shape[2], device=latents.device) + 0.5) / slower + 0.5
    low = places.floor().long()
    share = (places - low).to(latents)[:, None, None]
    return torch.cat([head, torch.lerp(around[:, :, low], around[:, :, low + 1], share)], dim=2)


def tiling_of(clip: Canvas, share: float, overlap: float, patch: Patch = DEFAULT_PATCH) -> Tiling:
    """Tiles of `share` times the sides and the length of a clip, in whole patches."""
    pairs = zip(clip.latents.shape[2:], patch, strict=True)
    frames, height, width = (max(1, math.floor(length * share / side + 0.5)) * side for length, side in pairs)
    return Tiling(size=(frames, height, width), overlap=overlap, patch=patch)


def sigmas_from(sigmas: Tensor, strength: float) -> Tensor:
    """The part of a schedule at `strength` and below, beginning there. ValueError where nothing of it is left.

    strength is a noise level of a flow model, 0 to 1.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"the strength of a second pass is {strength:g}: it must lie above 0, and at most be 1")
    if float(sigmas[0]) > 1.001:
        raise ValueError(
            f"this schedule begins at sigma {float(sigmas[0]):.4g}, where strengths are no noise levels: a second pass "
            "needs a flow model (ours, Wan, LTX-Video, HunyuanVideo)"
        )
    below = sigmas[sigmas < strength - 1e-6]
    if not len(below) or float(sigmas[0]) < strength - 1e-6:
        raise ValueError(
            f"this schedule goes from {float(sigmas[0]):.4g} to {float(sigmas[-1]):.4g} and has no way down from "
            f"{strength:g}: give the schedule of a whole run"
        )
    return torch.cat([sigmas.new_tensor([strength]), below])
