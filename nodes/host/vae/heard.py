"""Sound through audio VAEs: to the latents that stand beside a picture, and back to samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.media.sound import Sound
from ....models.streams import SoundLayout, layout_beside
from ....models.tasks.canvas import Canvas
from ..latent import latent_of, made
from ..messages import check_interrupted
from ..sounding import with_silence

MORE = 0.2  # seconds that are encoded besides a sound: encoders give a last latent only where it is full
LEAD = 25  # latents of a loop's sound that are decoded besides it, so that its ends meet


def layout_for(picture: Tensor) -> SoundLayout:
    """How sound lies beside this picture (B, C, T, H, W). ValueError for a family without sound."""
    layout = layout_beside(picture.shape[1])
    if layout is None:
        raise ValueError(
            f"latents of {picture.shape[1]} channels belong to a model of pictures alone: leave audio_vae out, or use "
            "the VAE of LTX-2 or MiniMax-H3"
        )
    return layout


def encode_sound(audio_vae: Any, sound: Sound, picture: Tensor, seconds: float) -> Tensor:
    """Latents (1, C, S, F, 1) of the first seconds of a sound and a little more, silence where it ends before.

    picture: the latents that it stands beside. ValueError for a VAE of another family.
    """
    layout, rate = layout_for(picture), int(getattr(audio_vae, "audio_sample_rate", 44100))
    wanted = round((seconds + MORE) * rate)
    held = np.concatenate([*sound.pieces(rate, "stereo"), np.zeros((2, wanted), np.float32)], axis=1)[:, :wanted]
    check_interrupted()
    latents: Tensor = audio_vae.encode(torch.from_numpy(np.ascontiguousarray(held))[None].movedim(1, -1))
    _check(layout, latents.shape)
    return layout.seen(latents).to(picture)


def decode_sound(audio_vae: Any, sound: Tensor, picture: Tensor, *, cyclic: bool = False) -> Sound:
    """The sound of latents (B, C, ., .) as their family lays them out; several clips one after the other.

    cyclic: each is a loop, so what comes before its beginning is its end.
    """
    layout = layout_for(picture)
    _check(layout, sound.shape, int(getattr(audio_vae, "latent_channels", layout.channels)))
    rate = _output_rate(audio_vae)
    parts = []
    for clip in sound.split(1):
        check_interrupted()
        parts.append(_around(audio_vae, clip, layout, rate) if cyclic else _decoded(audio_vae, clip))
    samples = torch.cat(parts, dim=-1).float().cpu().clamp(-1, 1)
    return Sound.of_samples(samples.numpy(), rate)


def with_sound(audio_vae: Any, canvas: Canvas, sound: Sound | None, fps: float) -> tuple[Canvas, str]:
    """A clip with its sound beside it, and what is to be said; one without sound gets room for it, to be generated."""
    layout_for(canvas.latents)
    silent = with_silence(canvas, fps)
    track = silent.sound
    if sound is None or track is None:
        return silent, "it has no sound: room for one was made, which is to be generated"
    frames = track.time.count(canvas.length, cyclic=canvas.cyclic)
    latents = encode_sound(audio_vae, sound, canvas.latents, frames / fps)
    known = replace(track, latents=latents, change=torch.zeros_like(latents[:, :1])).fitted(track.latents.shape[2])
    return replace(canvas, time=silent.time, sound=known), "its sound was encoded too"


def encoded(canvas: Canvas) -> dict[str, Any]:
    """The LATENT of a clip that was encoded: with a mask only where something is to be generated."""
    track = canvas.sound
    if track is None or bool((track.change > 0).any()):
        return latent_of(canvas)
    return made(canvas.latents, entries=canvas.entries, sound=track.latents)


def of_latent(audio_vae: Any, picture: Tensor, sound: Tensor, *, cyclic: bool) -> tuple[Sound | None, str]:
    """The sound of a LATENT for a video, and what is to be said of it."""
    if audio_vae is None:
        return None, "the sound of this latent is left out: connect audio_vae to decode it"
    return decode_sound(audio_vae, sound, picture, cyclic=cyclic), "with its sound"


def _around(audio_vae: Any, clip: Tensor, layout: SoundLayout, rate: int) -> Tensor:
    """The samples of a loop, with what lies before and after it decoded too and left out again."""
    seen = layout.seen(clip)
    length, lead = seen.shape[2], min(LEAD, seen.shape[2])
    whole = layout.given(torch.cat([seen[:, :, -lead:], seen, seen[:, :, :lead]], dim=2))
    begin, count = (round(latents * rate / layout.rate) for latents in (lead, length))
    return _decoded(audio_vae, whole)[:, begin : begin + count]


def _decoded(audio_vae: Any, latents: Tensor) -> Tensor:
    samples: Tensor = audio_vae.decode(latents).movedim(-1, 1)[0]
    return samples


def _output_rate(audio_vae: Any) -> int:
    """Samples a second that an audio VAE makes."""
    for holder, name in (
        (audio_vae, "audio_sample_rate_output"),
        (audio_vae.first_stage_model, "output_sample_rate"),
        (audio_vae, "audio_sample_rate"),
    ):
        found = getattr(holder, name, None)
        if found:
            return int(found)
    raise ValueError("this VAE does not say how many samples a second it makes: connect an audio VAE to audio_vae")


def _check(layout: SoundLayout, shape: torch.Size, channels: int | None = None) -> None:
    fits = len(shape) == 4 and shape[1] == layout.channels and shape[5 - layout.time] == layout.height
    if not fits or channels not in (None, layout.channels):
        raise ValueError(
            f"this audio VAE and latents of shape {tuple(shape)} do not fit, {layout.family} has {layout.channels} "
            "channels of sound: connect the audio VAE that belongs to the model"
        )
