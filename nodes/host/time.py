"""How long a latent and a frame last, asked from whoever knows: the node's number, the VAE, the clip, the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...models.geometry import MINIMAX_H3, OURS, Frames
from .. import sockets
from .formats import compression_of_format
from .latent import content
from .model.levels import is_ours
from .vae.others import time_of
from .vae.sound import Carried

# by the channels of a video's latents, where only one kind of VAE makes so many: LTX-Video, Wan 2.2 5B, MiniMax-H3
CHANNELS = {128: Frames.every(8), 48: Frames.every(4), 24: MINIMAX_H3}


def entries_of_time(time: Frames, fps: float) -> dict[str, Any]:
    """The entries of a LATENT that say how long its latents and frames last; fps: frames per second.

    Rhythms that are not causal are told by channels.
    """
    per_latent = time.rest[0]
    return {sockets.FPS: float(fps)} | ({sockets.TIME: per_latent} if time == Frames.every(per_latent) else {})


def clip_fps(given: float, *latents: Mapping[str, Any], needed: bool = True) -> float:
    """Frames per second of these clips: a number that a person gave, or 0 for what they carry.

    ValueError where they say different things, and where none says it but it is needed; else 0 then.
    """
    if given:
        return given
    said = {rate for latent in latents if (rate := carried_fps(latent))}
    if len(said) > 1:
        rates = " and ".join(f"{rate:g}" for rate in sorted(said))
        raise ValueError(f"the clips have {rates} frames per second: bring them to the same rate, or set fps")
    if not said and needed:
        raise ValueError(
            "nothing tells how many frames per second this clip has: make it with Empty Video, Animate Image or VAE "
            "Encode Video, or set fps"
        )
    return said.pop() if said else 0.0


def carried_fps(latent: Mapping[str, Any]) -> float:
    """Frames per second as a LATENT of ours says; 0 where it does not."""
    carried, sound = latent.get(sockets.FPS), latent.get(sockets.SOUND)
    if isinstance(carried, int | float) and 0 < carried < math.inf:
        return float(carried)
    return float(sound.fps) if isinstance(sound, Carried) else 0.0


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
