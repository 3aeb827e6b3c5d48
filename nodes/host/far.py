"""Sampling window by window through any GUIDER."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.sampler_helpers
import comfy.utils
import latent_preview
from torch import Tensor

from ...models.tasks.canvas import Canvas
from ...models.tasks.far import Generate
from .latent import MASK, SAMPLES, latent_of
from .messages import check_interrupted
from .sounding import nested_pair, sound_latents
from .strips import joined, strip


def window_sampler(
    guider: Any, sampler: Any, sigmas: Tensor, noise: Any, prompts: Sequence[Any], show: Callable[[int], None]
) -> Generate:
    """What models.tasks.far.extend_far asks for: each window gets its own seed and, where given, its own prompt."""

    def generate(canvas: Canvas, index: int) -> Canvas:
        check_interrupted()
        show(index)
        chosen = with_prompt(guider, prompts[min(index, len(prompts) - 1)]) if prompts else guider
        own_noise = copy.copy(noise)
        own_noise.seed = noise.seed + index
        given = latent_of(replace(canvas, entries={}))
        preview = latent_preview.prepare_callback(chosen.model_patcher, len(sigmas) - 1)
        with strip(chosen.model_patcher.model.latent_format) as moving:
            samples = chosen.sample(
                own_noise.generate_noise(given),
                given[SAMPLES],
                sampler,
                sigmas,
                denoise_mask=given[MASK],
                callback=joined(preview, moving),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=own_noise.seed,
            )
        return sampled(canvas, samples)

    return generate


def sampled(canvas: Canvas, samples: Any) -> Canvas:
    """A canvas with what a sampler made of it, on the device where latents are kept."""
    picture, sound = nested_pair(samples.to(comfy.model_management.intermediate_device()))
    picture, track = picture.to(canvas.latents), canvas.sound
    if track is not None and sound is not None:
        track = replace(track, latents=sound_latents(picture, sound).to(canvas.latents))
    return replace(canvas, latents=picture, sound=track)


def with_prompt(guider: Any, positive: Any) -> Any:
    """A copy of a GUIDER with another positive conditioning."""
    changed = copy.copy(guider)
    converted = comfy.sampler_helpers.convert_cond(positive)
    changed.original_conds = {**guider.original_conds, "positive": converted}
    return changed


def encode_prompts(text_encoder: Any, text: str, most: int) -> list[Any]:
    """One conditioning per line that is not empty, of at most so many lines: there are no more windows."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and text_encoder is None:
        raise ValueError("prompts for single windows need `clip`: connect the model's text encoder")
    return [text_encoder.encode_from_tokens_scheduled(text_encoder.tokenize(line)) for line in lines[:most]]
