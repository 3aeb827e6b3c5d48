"""A small picture of every latent frame of a video, decoded or by core's preview colours, for the view of patches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.media.sprite import LARGEST, as_bytes, sprite
from .. import sockets
from .colours import colours_of, unit
from .latent import samples_of
from .vae.others import time_of
from .vae.pieces import decode_pieces

MOST = 256  # latent frames; of longer videos no pictures are made


def previewed(model: Any, latent: Mapping[str, Any], *, noisy: bool = False) -> dict[str, Any] | None:
    """Of the first clip of a LATENT, by the colours of a MODEL's latents; None where core knows none for it.

    noisy: it is the state of a run, which is as much wider than a clean video as it is noisy.
    """
    samples, colours = samples_of(latent)[:1], colours_of(model.model.latent_format)
    if colours is None or samples.shape[1] != colours.channels or samples.shape[2] > MOST:
        return None
    latents = model.model.process_latent_in(samples)[0]
    return sprite(colours(unit(latents) if noisy else latents)[None].cpu())._asdict()


def decoded(vae: Any, latent: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the first clip of a LATENT: of each latent the frame in the middle of those that it stands for."""
    samples, cyclic = samples_of(latent)[:1], bool(latent.get(sockets.LOOP))
    count, time = samples.shape[2], time_of(vae)
    if count > MOST:
        return None
    ends = [time.count(index, cyclic=cyclic) for index in range(count + 1)]
    wanted = [(first + after - 1) // 2 for first, after in pairwise(ends)]
    found: list[Tensor] = []
    seen = 0
    for piece in decode_pieces(vae, samples, cyclic=cyclic):
        inside = [frame - seen for frame in wanted if seen <= frame < seen + len(piece)]
        found += [_small(piece[frame]) for frame in inside]
        seen += len(piece)
    return sprite(torch.stack(found)[None])._asdict() if len(found) == count else None


def _small(frame: Tensor) -> Tensor:
    """A frame (H, W, 3) no larger than a tile, uint8."""
    longer = max(frame.shape[:2])
    small = frame[..., :3].float().cpu().movedim(-1, 0)[None]
    if longer > LARGEST:
        small = F.interpolate(small, scale_factor=LARGEST / longer, mode="area")
    return as_bytes(small[0].movedim(0, -1))
