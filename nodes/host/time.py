"""How long a latent lasts, asked from whoever knows it: the node's number, the VAE, the clip itself, the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...models.geometry import MINIMAX_H3, OURS, Frames
from .. import sockets
from .formats import compression_of_format
from .latent import content
from .model.levels import is_ours
from .vae.others import time_of

# by the channels of a video's latents, where only one kind of VAE makes so many: LTX-Video, Wan 2.2 5B, MiniMax-H3
CHANNELS = {128: Frames.every(8), 48: Frames.every(4), 24: MINIMAX_H3}


def entry_of(time: Frames) -> dict[str, Any]:
    """The entry of a LATENT that says how long its latents last; rhythms that are not causal are told by channels."""
    per_latent = time.rest[0]
    return {sockets.TIME: per_latent} if time == Frames.every(per_latent) else {}


def clip_time(given: int, *latents: Mapping[str, Any], vae: Any = None, model: Any = None) -> Frames:
    """Which frames the latents of these clips stand for: a number that a person gave, or 0 to ask.

    Asked are the VAE, what the clips carry, the model, and the number of channels. ValueError where nobody tells.
    """
    if given:
        return Frames.every(given)
    if vae is not None:
        return time_of(vae)
    for latent in latents:
        if isinstance(latent.get(sockets.TIME), int):
            return Frames.every(int(latent[sockets.TIME]))
    described = None if model is None else model_time(model)
    if described is not None:
        return described
    for latent in latents:
        if content(latent).shape[1] in CHANNELS:
            return CHANNELS[content(latent).shape[1]]
    raise ValueError(
        "nothing tells how many frames a latent of this clip stands for: connect `vae`, encode with VAE Encode Video, "
        "or set frames_per_latent (4 for Wan and HunyuanVideo, 8 for LTX-Video)"
    )


def model_time(model: Any) -> Frames | None:
    """Which frames the latents of a MODEL stand for; None where it does not say."""
    if is_ours(model):
        return OURS.grid
    described = compression_of_format(model.get_model_object("latent_format"))
    return None if described is None else described.grid
