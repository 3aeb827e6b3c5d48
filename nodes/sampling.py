"""Noise schedules and solvers as nodes: SIGMAS with the curve shown, and SAMPLER."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..models import schedules
from ..models.patches import Tokens as TokensValue
from ..models.solvers import SOLVERS, Solver
from .host.latent import content
from .host.messages import serve_json, show_text
from .host.sampling import solver_sampler
from .schema import Node, schema
from .sockets import Tokens

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
    ) -> io.NodeOutput:
        """Compute the schedule and show it."""
        num_tokens = None if video is None else count_tokens(video)
        used = chosen_shift(shift_rule, shift, num_tokens)
        sigmas = schedules.sigmas(schedule, steps, shift=used, denoise=denoise, sigma_max=sigma_max)
        note = f"shift {used:.3g}" + (f" for {num_tokens} tokens" if shift_rule != "fixed" else "")
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
            "steps", default=20, min=1, max=1000, step=1, tooltip="Denoising steps. More is finer and slower."
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
            default=3.0,
            min=0.01,
            max=100.0,
            step=0.05,
            tooltip="Above 1: more steps at high noise (layout, motion). Below 1: more on detail. 1 changes nothing.",
        ),
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
            tooltip="Noise level to begin at. Keep 1, except for models that predict eps: 0.9937, where DDPM begins.",
        ),
        io.MultiType.Input(
            "video",
            types=[io.Latent, Tokens],
            optional=True,
            tooltip="The LATENT or TOKENS to be denoised. Needed by the automatic shift rules only.",
        ),
    ]


def chosen_shift(rule: str, shift: float, num_tokens: int | None) -> float:
    """The fixed shift, or the one of an automatic rule for this many tokens."""
    if rule == "fixed":
        return shift
    if num_tokens is None:
        raise ValueError(f"shift_rule {rule} counts the patches of the video: connect `video`, or choose fixed")
    return schedules.auto_shift(rule.removeprefix(AUTO), num_tokens)


def count_tokens(video: Mapping[str, Any] | TokensValue) -> int:
    """How many patches the model sees: of the longest clip in TOKENS, or of a LATENT.

    A LATENT does not tell the model's patch size: 1 x 2 x 2 is taken, and 1 for latents of 128 channels and more, whose
    VAE has cut the patches already (LTX-Video).
    """
    if isinstance(video, TokensValue):
        return max(video.lengths)
    samples = content(video)
    samples = samples.unbind()[0] if getattr(samples, "is_nested", False) else samples
    frames = samples.shape[2] if samples.ndim == 5 else 1
    side = 1 if samples.shape[1] >= 128 else 2
    return int(frames * math.prod(math.ceil(size / side) for size in samples.shape[-2:]))


def summary(values: list[float]) -> str:
    """A schedule in one short line."""
    shown = [f"{value:.3g}" for value in values]
    if len(shown) > 8:
        shown = [*shown[:4], "...", *shown[-3:]]
    return " > ".join(shown) or "no steps"


def curve_for(query: Mapping[str, str]) -> dict[str, Any]:
    """What the curve on the node asks for while its settings change: the sigmas of a fixed shift."""
    shift, denoise, sigma_max = (float(query.get(name, 1)) for name in ("shift", "denoise", "sigma_max"))
    name, steps = query.get("schedule", "linear"), int(query.get("steps", 20))
    return {"sigmas": schedules.sigmas(name, steps, shift=shift, denoise=denoise, sigma_max=sigma_max).tolist()}


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
            inputs=[
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default="unipc",
                    tooltip=(
                        "euler: first order. heun: second, two model calls per step. dpmpp_2m and unipc: second and "
                        "third order at one call per step. euler_ancestral, euler_sde: fresh noise at every step."
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
            ],
            outputs=[
                io.Sampler.Output(display_name="sampler", tooltip="For DiT Denoise Step or SamplerCustomAdvanced.")
            ],
        )

    @classmethod
    def execute(cls, solver: str, order: int, eta: float, s_noise: float) -> io.NodeOutput:
        """Make the sampler object."""
        return io.NodeOutput(solver_sampler(Solver(name=solver, order=order, eta=eta, s_noise=s_noise)))


NODES: list[type[io.ComfyNode]] = [Scheduler, Sampler]
