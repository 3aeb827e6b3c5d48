"""Our solvers as core SAMPLER objects, and our guidance as a core GUIDER."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...models import guidance, solvers
from ...models.guidance import Guidance
from ...models.solvers import Solver, SolverState
from .model.guidance_over_time import KEY as OVER_TIME
from .strips import joined, strip

log = logging.getLogger(__name__)
WEAK = "spacetime_weak"  # under which a patcher carries the model that it is guided with


def solver_sampler(solver: Solver) -> Any:
    """A core SAMPLER that runs one of our solvers; `spacetime_solver` on it lets our step node go without replay."""

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        return run_solver(solver, model, x, sigmas, extra_args or {}, callback, disable)

    sampler = comfy.samplers.KSAMPLER(sample)
    sampler.spacetime_solver = solver
    return sampler


@torch.no_grad()  # as core's own samplers
def run_solver(
    solver: Solver,
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any],
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
) -> Tensor:
    """A solver behind k-diffusion's signature: model(x, sigma, **extra_args) -> denoised; callback gets k's dict."""
    check_flow_model(model)

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        denoised: Tensor = model(x, sigma, **extra_args)
        return denoised

    total = len(sigmas) - 1
    with tqdm(total=total, disable=disable) as bar, strip(_latent_format(model)) as moving:

        def report(before: SolverState, after: SolverState) -> None:
            bar.update()
            if after.denoised is not None:
                moving(before.step, after.denoised, before.x, total)
            if callback is not None:
                sigma = torch.tensor(before.sigma)
                callback(
                    {"x": before.x, "i": before.step, "sigma": sigma, "sigma_hat": sigma, "denoised": after.denoised}
                )

        generator = solvers.noise_generator(extra_args.get("seed"))
        return solvers.sample(solver, denoiser, x, sigmas, report, generator)


def _latent_format(model: Any) -> Any:
    """Of the model that core has wrapped for a sampler; None where it is something else."""
    guider = getattr(model, "inner_model", None)
    return getattr(getattr(guider, "inner_model", None), "latent_format", None)


def check_flow_model(model: Any) -> None:
    """ValueError when a core model is not a flow model: sigma means something else there."""
    guider = getattr(model, "inner_model", None)
    sampling = getattr(getattr(guider, "inner_model", None), "model_sampling", None)
    if sampling is not None and not isinstance(sampling, comfy.model_sampling.CONST):
        raise ValueError(
            "Spacetime's solvers are made for flow models (sigma from 1 to 0: ours, Wan, LTX-Video, HunyuanVideo, "
            "Flux) and this model counts noise otherwise: use core's KSamplerSelect and BasicScheduler with it"
        )


class SpacetimeGuider(comfy.samplers.CFGGuider):
    """Core's CFG guider with an interval and other ways to combine the two predictions.

    Inside the interval both run in one batch of the model, as core arranges it; outside only the positive one runs.
    It keeps nothing between steps, so a run can be stopped and resumed at any step.
    """

    guidance: Guidance = Guidance()
    model_patcher: Any
    weak: Any = None  # a patcher: the worse model that takes the negative prompt's part (autoguidance)

    def set_weak_model(self, weak: Any) -> None:
        """Guide with a worse model, given the same prompt, instead of a negative one. It is loaded beside the model."""
        if weak.model is self.model_patcher.model:
            raise ValueError(
                "model and weak_model are one and the same: load an early or smaller checkpoint as the weak one"
            )
        if type(weak.model) is not type(self.model_patcher.model):
            raise ValueError("weak_model is of another kind than model: choose an earlier or smaller one of its family")
        patcher = self.model_patcher.clone()
        patcher.set_additional_models(WEAK, [weak])
        (self.weak,) = patcher.get_additional_models_with_key(WEAK)
        self.model_patcher = patcher

    def sample(
        self,
        noise: Any,
        latent_image: Any,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Any = None,
        callback: Callable[..., Any] | None = None,
        **settings: Any,
    ) -> Any:
        """Core's run, shown as a moving strip while it goes on."""
        with strip(self.model_patcher.model.latent_format) as moving:
            return super().sample(
                noise,
                latent_image,
                sampler,
                sigmas,
                denoise_mask=denoise_mask,
                callback=joined(callback, moving),
                **settings,
            )

    def set_guidance(self, guidance: Guidance) -> None:
        """How to guide; `cfg` mirrors its scale for nodes that read it."""
        self.guidance = guidance
        self.set_cfg(guidance.scale)

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The guided prediction of the clean latent (core's name for it is historical)."""
        options = model_options or {}
        settings = self.guidance
        if self._stands(timestep, options):
            return x  # velocity 0: the prediction is the state itself
        scale = settings.scale if settings.always or self._in_interval(timestep) else 1.0
        if scale != 1.0 and settings.mode != "cfg":
            options = {**options, "sampler_cfg_function": self._combine}
        positive, negative = self.conds.get("positive"), self.conds.get("negative")
        if self.weak is not None and scale != 1.0:
            return self._autoguided(x, timestep, positive, options, seed)
        denoised: Tensor = comfy.samplers.sampling_function(
            self.inner_model, x, timestep, negative, positive, scale, model_options=options, seed=seed
        )
        return denoised

    def _stands(self, timestep: Tensor, options: dict[str, Any]) -> bool:
        """Whether this step is one of the first, which CFG-Zero* leaves out."""
        sigmas = options.get("transformer_options", {}).get("sample_sigmas")
        if self.guidance.mode != "cfg_zero_star" or sigmas is None:
            return False
        return guidance.zero_init(timestep.max(), sigmas, self.guidance.zero_steps)

    def _in_interval(self, timestep: Tensor) -> bool:
        start, end = self.guidance.bounds(self.inner_model.model_sampling.percent_to_sigma)
        return guidance.in_interval(float(timestep.max()), start, end)

    def _autoguided(
        self, x: Tensor, timestep: Tensor, positive: Any, options: dict[str, Any], seed: int | None
    ) -> Tensor:
        """The prediction of the model, led away from that of the weak one (arXiv 2406.02070)."""
        strong = comfy.samplers.sampling_function(
            self.inner_model, x, timestep, None, positive, 1.0, model_options=options, seed=seed
        )
        if self.weak.model.current_patcher is not self.weak:
            self.weak.pre_run()
        (weak,) = comfy.samplers.calc_cond_batch(self.weak.model, [positive], x, timestep, options)
        return self.guidance.combine(strong, weak, x)

    def _combine(self, args: dict[str, Any]) -> Tensor:
        """Core's hook: gets both predictions, gives x - denoised."""
        x: Tensor = args["input"]
        return x - self.guidance.combine(args["cond_denoised"], args["uncond_denoised"], x)


def make_guider(
    model: Any, positive: Any, negative: Any | None, settings: Guidance, weak: Any | None = None
) -> SpacetimeGuider:
    """A GUIDER. The negative conditioning may be absent only where it would not be used (scale 1, or a weak model)."""
    if negative is None and weak is None and settings.scale != 1.0:
        raise ValueError(
            f"cfg {settings.scale} compares the prompt with a negative one: connect `negative` "
            "(an empty CLIP Text Encode will do), or set cfg to 1"
        )
    guider = SpacetimeGuider(model)
    # core's set_conds wants both
    guider.inner_set_conds({"positive": positive} | ({} if negative is None else {"negative": negative}))
    guider.set_guidance(settings)
    if weak is not None:
        if model.get_attachment(OVER_TIME) is not None:
            raise ValueError(
                "Guidance Over Time scales what a negative prompt does, and weak_model takes its place: use one of them"
            )
        guider.set_weak_model(weak)
    return guider
