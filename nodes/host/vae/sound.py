"""The sound of a video that is encoded: it travels in the LATENT, and into the video that is decoded from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....models.media.sound import Sound
from ... import sockets


@dataclass(frozen=True)
class Carried:
    """A sound, and what the frames must still be for it to fit them."""

    sound: Sound
    fps: float
    length: int  # latents


def entry_of(sound: Sound | None, fps: float, latents: Tensor) -> dict[str, Any]:
    """The entry of a LATENT (B, C, T, H, W) that carries a sound; none without a sound, and for single pictures."""
    if sound is None or latents.ndim != 5:
        return {}
    return {sockets.SOUND: Carried(sound, fps, latents.shape[2])}


def slowed(entries: Mapping[str, Any], times: int, length: int) -> dict[str, Any]:
    """The entries of a clip that has so many times the frames in the same time, now so many latents."""
    carried = entries.get(sockets.SOUND)
    if not isinstance(carried, Carried):
        return dict(entries)
    return {**entries, sockets.SOUND: replace(carried, fps=carried.fps * times, length=length)}


def kept(latent: Mapping[str, Any], samples: Tensor, fps: float) -> tuple[Sound | None, str]:
    """The sound that goes into a video decoded at `fps`, and what is to be said of it; empty where there was none."""
    carried = latent.get(sockets.SOUND)
    if not isinstance(carried, Carried):
        return None, ""
    left_out = "the sound of the source is left out: "
    if samples.ndim != 5 or samples.shape[2] != carried.length or samples.shape[0] != 1:
        return None, f"{left_out}these frames are not those that it was heard with"
    if latent.get(sockets.LOOP):
        return None, f"{left_out}a loop has no beginning for it"
    if abs(fps / carried.fps - 1) > 1e-3:
        return None, f"{left_out}it belongs to {carried.fps:g} frames per second, and fps is {fps:g}"
    return carried.sound, "with the sound of the source"


def of_components(components: Any) -> Sound | None:
    """The sound of a VIDEO in memory; of several the first."""
    audio = getattr(components, "audio", None)
    if not audio:
        return None
    return Sound.of_samples(audio["waveform"][0].detach().float().cpu().numpy(), int(audio["sample_rate"]))


def as_audio(sound: Sound, seconds: float) -> dict[str, Any]:
    """A core AUDIO of a sound's first seconds."""
    return {"waveform": torch.from_numpy(sound.samples(seconds))[None], "sample_rate": sound.rate}
