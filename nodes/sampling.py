"""Noise schedules and solvers as nodes: SIGMAS with the curve shown, and SAMPLER."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..models import schedules
from ..models.patches import DEFAULT_PATCH, Patch
from ..models.patches import Tokens as TokensValue
from ..models.recommended import CARD
from ..models.solvers import SOLVERS, Solver
from .host.latent import content
from .host.messages import serve_json, show_text
from .host.sampling import solver_sampler
from .schema import Node, schema
from .sockets import GRIDS, Tokens

OWN_SOLVER = "auto"
AUTO = "auto_"
SHIFT_RULES = ["fixed", *(AUTO + name for name in schedules.AUTO_SHIFTS)]
CURVE_ROUTE = "/spacetime/sigmas"


class Scheduler(Node):
    """Settings -> SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeScheduler",
            display_name="Scheduler",
            category="Spacetime/sampling",
            description=(
                "How the noise falls from 1 (pure noise) to 0 (clean) over the steps of a run, drawn as a curve on the "
                "node. Works with every flow model: ours, Wan, LTX-Video, HunyuanVideo, Flux."
            ),
            search_aliases=["sigmas", "noise schedule", "karras", "beta", "shift", "basic scheduler", "timesteps"],
            rarely=["sigma_max"],
            inputs=_scheduler_inputs(),
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="steps + 1 noise levels, the last one 0.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        schedule: str,
        steps: int,
        shift_rule: str,
        shift: float,
        denoise: float,
        sigma_max: float,
        video: Any = None,
        model: Any = None,
    ) -> io.NodeOutput:
        """Compute the schedule and show it."""
        from .host.model.recommended import own_settings, patch_of

        own = own_settings(model)
        num_tokens = None if video is None else count_tokens(video, patch_of(model))
        used = chosen_shift(shift_rule, shift or own.settings.shift, num_tokens)
        begin = min(sigma_max, own.sigma_max)
        sigmas = schedules.sigmas(schedule, steps or own.settings.steps, shift=used, denoise=denoise, sigma_max=begin)
        taken = [f"shift {used:.3g}"]
        if shift_rule != "fixed":
            taken[0] += f" for {num_tokens} tokens"
        elif not shift:
            taken[0] += f" ({own.shift_source})"
        if not steps:
            taken.append(f"{own.settings.steps} steps ({own.source})")
        if begin < sigma_max:
            taken.append(f"from sigma {begin:.4g}, the noisiest that this model knows")
        note = "; ".join(taken)
        show_text(cls, f"{note}: {summary(sigmas.tolist())}")
        settings = [schedule, steps, shift_rule, shift, denoise, sigma_max]
        shown = {"spacetime_curve": sigmas.tolist(), "spacetime_note": [note], "spacetime_settings": settings}
        return io.NodeOutput(sigmas, ui=shown)


def _scheduler_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "schedule",
            options=list(schedules.SCHEDULES),
            default="linear",
            tooltip=(
                "Shape of the curve. linear: equal steps, right for flow models. cosine, karras, exponential: more "
                "steps near clean. beta: more at both ends. linear_quadratic: Mochi's. ddpm: the original DiT's."
            ),
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            step=1,
            tooltip=(
                "Denoising steps. More is finer and slower. 0: as many as recommended for the model (connect it; else "
                "those of the embedded one)."
            ),
        ),
        io.Combo.Input(
            "shift_rule",
            options=SHIFT_RULES,
            default="fixed",
            tooltip=(
                "fixed uses the shift below. auto_... takes the number of patches of the video (connect it): "
                "larger and longer videos need more steps at high noise. flux and ltx are straight lines, sqrt is "
                "Open-Sora's root."
            ),
        ),
        io.Float.Input(
            "shift",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.05,
            tooltip=(
                "Above 1: more steps at high noise (layout, motion). Below 1: more on detail. 1 changes nothing. "
                "0: the model's own (connect it; else that of the embedded one)."
            ),
        ),
        *_range_inputs(),
        io.MultiType.Input(
            "video",
            types=[io.Latent, Tokens],
            optional=True,
            tooltip="The LATENT or TOKENS to be denoised. Needed by the automatic shift rules only.",
        ),
        _model_input("Steps 0, shift 0 and where the noise begins are then its own."),
    ]


def _range_inputs() -> list[io.Input]:
    """Which part of the way from noise to clean is gone."""
    return [
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Below 1 skips the first part of the run and keeps that much of the video that comes in.",
        ),
        io.Float.Input(
            "sigma_max",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.0001,
            round=False,
            tooltip=(
                "Noise level to begin at. Keep 1: a model that begins below it says so where it is connected. "
                "Else set it here, to 0.9937 for models that predict eps, as DDPM does."
            ),
        ),
    ]


def _model_input(tooltip: str) -> io.Input:
    """Whose own settings are taken. Workflows from before it hold none."""
    return io.Model.Input("model", optional=True, tooltip=f"The model that will be run. {tooltip}")


def chosen_shift(rule: str, shift: float, num_tokens: int | None) -> float:
    """The fixed shift, or the one of an automatic rule for this many tokens."""
    if rule == "fixed":
        return shift
    if num_tokens is None:
        raise ValueError(f"shift_rule {rule} counts the patches of the video: connect `video`, or choose fixed")
    return schedules.auto_shift(rule.removeprefix(AUTO), num_tokens)


def count_tokens(video: Mapping[str, Any] | TokensValue, patch: Patch | None = None) -> int:
    """How many patches the model sees: of the longest clip in TOKENS or in a packed LATENT, or of a LATENT.

    patch: that of the model. A LATENT does not tell it: without it 1 x 2 x 2 is taken, and 1 for latents of 128
    channels and more, whose VAE has cut the patches already (LTX-Video).
    """
    if isinstance(video, TokensValue):
        return max(video.lengths)
    if GRIDS in video:
        return max(math.prod(grid) for grid in video[GRIDS])
    samples = content(video)
    samples = samples.unbind()[0] if getattr(samples, "is_nested", False) else samples
    sizes = samples.shape[2:] if samples.ndim == 5 else (1, *samples.shape[-2:])
    sides = patch or usual_patch(samples.shape[1])
    return math.prod(math.ceil(size / side) for size, side in zip(sizes, sides, strict=True))


def usual_patch(channels: int) -> Patch:
    """The patch of latents of so many channels where no model tells it: 128 and more are patches already."""
    return (1, 1, 1) if channels >= 128 else DEFAULT_PATCH


def summary(values: list[float]) -> str:
    """A schedule in one short line."""
    shown = [f"{value:.3g}" for value in values]
    if len(shown) > 8:
        shown = [*shown[:4], "...", *shown[-3:]]
    return " > ".join(shown) or "no steps"


def curve_for(query: Mapping[str, str]) -> dict[str, Any]:
    """What the curve on the node asks for while its settings change: the sigmas of a fixed shift, without a model.

    Steps 0 and shift 0 are then those of the embedded model, and `note` says so.
    """
    shift, denoise, sigma_max = (float(query.get(name, 1)) for name in ("shift", "denoise", "sigma_max"))
    name, steps = query.get("schedule", "linear"), int(query.get("steps", 0))
    curve = schedules.sigmas(name, steps or CARD.steps, shift=shift or CARD.shift, denoise=denoise, sigma_max=sigma_max)
    note = "" if steps and shift else "as for spacetime-toy, until a model is connected"
    return {"sigmas": curve.tolist(), "note": note}


serve_json(CURVE_ROUTE, curve_for)


class Sampler(Node):
    """Solver settings -> SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeSampler",
            display_name="Sampler",
            category="Spacetime/sampling",
            description=(
                "A solver of the denoising equation, made for flow models, for the DiT Denoise Step or core's "
                "SamplerCustomAdvanced. Core's own samplers work in both places too (KSamplerSelect)."
            ),
            search_aliases=["solver", "euler", "heun", "dpm++ 2m", "unipc", "ancestral", "sde", "ksampler select"],
            rarely=["order", "eta", "s_noise"],
            inputs=[
                io.Combo.Input(
                    "solver",
                    options=[OWN_SOLVER, *SOLVERS],
                    default=OWN_SOLVER,
                    tooltip=(
                        "auto: the one recommended for the model (connect it; else that of the embedded one). euler: "
                        "first order. heun: second, two model calls per step. dpmpp_2m and unipc: second and third "
                        "order at one call per step. euler_ancestral, euler_sde: fresh noise at every step."
                    ),
                ),
                io.Int.Input("order", default=2, min=1, max=3, step=1, tooltip="Order of unipc; the others ignore it."),
                io.Float.Input(
                    "eta",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much fresh noise euler_ancestral and euler_sde add: 0 none, 1 the usual amount.",
                ),
                io.Float.Input(
                    "s_noise", default=1.0, min=0.0, max=2.0, step=0.01, tooltip="Factor on that noise. Keep 1."
                ),
                _model_input("Solver auto is then its own."),
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="For DiT Denoise Step or SamplerCustomAdvanced.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, solver: str, order: int, eta: float, s_noise: float, model: Any = None) -> io.NodeOutput:
        """Make the sampler object."""
        if solver == OWN_SOLVER:
            from .host.model.recommended import own_settings

            own = own_settings(model)
            solver = own.settings.solver
            show_text(cls, f"{solver} ({own.source})")
        return io.NodeOutput(solver_sampler(Solver(name=solver, order=order, eta=eta, s_noise=s_noise)))


NODES: list[type[io.ComfyNode]] = [Scheduler, Sampler]
