"""What editing tasks need of a core MODEL: the meaning of change levels, and time as a circle."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_sampling import CONST
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....models.tasks.along_time import loop_shift
from ....models.tasks.levels import Levels, open_places, seen_change
from .circle import Circle
from .hosted_dit import CYCLIC, HostedDiT

KEY = "spacetime_levels"
SHIFT = "spacetime_shift"
MASKS = ("denoise_mask", "audio_denoise_mask")  # conditions of a model: the masks of its picture and of its sound


def is_ours(model: Any) -> bool:
    """Whether a MODEL is our DiT."""
    return isinstance(model.get_model_object("diffusion_model"), HostedDiT)


# ---------------------------------------------------------------------------------------------------------------
# Levels


class _Reference:
    """The clean latents and the mask of the run in progress, in the model's units."""

    def __init__(self) -> None:
        self.latents: Tensor | None = None
        self.change: Tensor | None = None


def with_levels(model: Any, levels: Levels) -> Any:
    """A clone of a MODEL for which levels between 0 and 1 of a noise_mask mean this (models.tasks.levels).

    Core asks a mask function at every step how much of a place may change; a model that takes a noise level per patch
    gets the same answer. No sampler and no guider needs to know.
    """
    patched = model.clone()
    for kind in (WrappersMP.APPLY_MODEL, WrappersMP.PREDICT_NOISE, WrappersMP.SAMPLER_SAMPLE):
        patched.remove_wrappers_with_key(kind, KEY)
    patched.model_options.pop("denoise_mask_function", None)
    if levels == "scale":  # core's own
        return patched

    def at_step(sigma: Tensor, mask: Tensor, extra_options: Any = None, **_: Any) -> Tensor:
        return seen_change(mask, noise_share((extra_options or {}).get("model"), sigma), levels)

    def apply_model(executor: Any, x: Tensor, sigma: Tensor, *rest: Any, **conds: Any) -> Any:
        for name in MASKS:
            if conds.get(name) is not None:
                share = noise_share(executor.class_obj, sigma)
                conds[name] = seen_change(conds[name], share, levels)
        return executor(x, sigma, *rest, **conds)

    patched.set_model_denoise_mask_function(at_step)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, apply_model)
    if levels == "clamp":
        _hold_waiting_places(patched)
    return patched


def noise_share(base: Any, sigma: Tensor) -> Tensor:
    """The share of noise at a core model's sigma, 0 to 1, in which levels are counted: a flow model's sigma itself.

    Others add noise to what stays whole, x = x0 + sigma noise, so noise has sigma / (1 + sigma) of it.
    """
    sampling = getattr(base, "model_sampling", None)
    return sigma if sampling is None or isinstance(sampling, CONST) else sigma / (1 + sigma)


def _hold_waiting_places(model: Any) -> None:
    """Clamp: a place that waits is seen noisy, but its prediction is its reference."""
    run = _Reference()

    def sampler_sample(executor: Any, guider: Any, sigmas: Tensor, extra: Any, callback: Any, *rest: Any) -> Any:
        _, latents, mask, *_ = rest  # noise, latent_image, denoise_mask, disable_pbar
        run.latents, run.change = latents, mask
        try:
            return executor(guider, sigmas, extra, callback, *rest)
        finally:
            run.latents = run.change = None

    def predict(executor: Any, x: Tensor, sigma: Tensor, *rest: Any, **named: Any) -> Any:
        denoised = executor(x, sigma, *rest, **named)
        if run.change is None or run.latents is None:
            return denoised
        waiting = open_places(run.change, noise_share(executor.class_obj.inner_model, sigma), "clamp") == 0
        return torch.where(waiting, run.latents.to(denoised), denoised)

    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, sampler_sample)
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, predict)


# ---------------------------------------------------------------------------------------------------------------
# Loops


def looped(model: Any, skip: int = 0) -> Any:
    """A clone of a MODEL whose time is a circle.

    Ours: rotary positions in whole turns per loop, so that no frame is the first one. Others: Mobius (arXiv
    2502.20307): what the model sees is rolled along time by another amount at every step, and its answer rolled back.
    """
    patched = model.clone()
    if is_ours(model):
        # a clone shares nested options with its original
        patched.model_options["transformer_options"] = {**patched.model_options["transformer_options"], CYCLIC: True}
        return patched
    patched.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, SHIFT)

    def apply_model(
        executor: Any,
        x: Tensor,
        sigma: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        options: dict[str, Any] | None = None,
        **conds: Any,
    ) -> Any:
        options = options if options is not None else conds.pop("transformer_options", {})
        circle = Circle.of(x, conds.get("latent_shapes"))
        shift = loop_shift(step_of(sigma, options), circle.length, skip)
        conds = {name: circle.condition(name, value, -shift) for name, value in conds.items()}
        concat = circle.condition("c_concat", c_concat, -shift)
        out = executor(circle.rolled(x, -shift), sigma, concat, c_crossattn, control, options, **conds)
        return circle.rolled(out, shift)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, SHIFT, apply_model)
    return patched


def step_of(sigma: Tensor, options: dict[str, Any]) -> int:
    """The step of the run that a noise level belongs to: the last one of the schedule that lies at or above it."""
    sigmas = options.get("sample_sigmas")
    if sigmas is None:
        return 0
    return max(0, int((sigmas.to(sigma.device) >= sigma.max() - 1e-6).sum()) - 1)
