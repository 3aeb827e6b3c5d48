"""Noise, and the way back one step at a time."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..models.patches import Tokens
from . import sockets
from .host import messages
from .looking import patches_shown
from .schema import Node, schema
from .tokens import denoised_latent, laid_out

CATEGORY = "Spacetime/denoise"


class ForwardDiffusion(Node):
    """Clean TOKENS -> noisy TOKENS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeForwardDiffusion",
            display_name="Forward Diffusion",
            category=CATEGORY,
            description=(
                "Noises patches to the first sigma of a schedule: (1 - sigma) x clean + sigma x noise, with sigma "
                "times the patch's own change level. The tokens then carry the whole run (noise, schedule, seed, "
                "step), which DiT Denoise Step continues. A schedule that starts below 1 keeps part of the picture."
            ),
            search_aliases=["add noise", "noise tokens", "start sampling", "img2img", "video to video"],
            inputs=[
                sockets.Tokens.Input("tokens", tooltip="Clean patches, from Patchify or from a run that is complete."),
                io.Noise.Input("noise", tooltip="For example RandomNoise. Samplers that draw noise use its seed."),
                io.Sigmas.Input("sigmas", tooltip="The schedule of the whole run, from the first noise level down."),
            ],
            outputs=[sockets.Tokens.Output(display_name="tokens", tooltip="Noisy patches at step 0 of the run.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, tokens: Tokens, noise: Any, sigmas: torch.Tensor) -> io.NodeOutput:
        """Noise them, and remember how."""
        from .host.stepping.trajectory import begin

        noisy = begin(tokens, noise, sigmas)
        messages.show_text(cls, f"sigma {float(sigmas[0]):.4g}, {len(sigmas) - 1} steps to go")
        return io.NodeOutput(noisy, ui=patches_shown(noisy) or None)


class DenoiseStep(Node):
    """Noisy TOKENS -> less noisy TOKENS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeDenoiseStep",
            display_name="DiT Denoise Step",
            category=CATEGORY,
            description=(
                "Runs the next steps of a denoising run with any model, guider and sampler. Many single steps give "
                "the same result, to the bit, as one run or as SamplerCustomAdvanced. Guider, prompt and model may "
                "differ from step to step. Editing the tokens, or another sampler, starts anew from the present x."
            ),
            search_aliases=["denoise", "sampler step", "single step", "step by step", "dit step", "sample"],
            inputs=[
                sockets.Tokens.Input("tokens", tooltip="From Forward Diffusion or from another DiT Denoise Step."),
                io.Guider.Input("guider", tooltip="Model and prompt for these steps, for example from CFGGuider."),
                io.Sampler.Input("sampler", tooltip="Any sampler; the same one for all steps of a run."),
                io.Int.Input(
                    "steps", default=1, min=-1, max=10000, tooltip="Steps to run now. 0 or -1: all that are left."
                ),
                io.Combo.Input(
                    "until",
                    options=["steps", "sigma", "percent", "model's boundary"],
                    default="steps",
                    optional=True,
                    tooltip=(
                        "How far to go. steps: as many as above. sigma, percent: to where value is, whatever "
                        "steps says. model's boundary: where the second expert of Wan 2.2 A14B takes over."
                    ),
                ),
                io.Float.Input(
                    "value",
                    default=0.5,
                    min=0.0,
                    max=1000.0,
                    step=0.001,
                    optional=True,
                    tooltip=(
                        "With until sigma: the noise level that is not stepped from any more. With percent: 0 is the "
                        "beginning, 1 the end, in the model's own count, as for prompts with start and end."
                    ),
                ),
            ],
            outputs=[
                sockets.Tokens.Output(
                    display_name="tokens", tooltip="Patches after these steps, with the run's state."
                ),
                io.Latent.Output(display_name="denoised", tooltip="The model's present guess of the clean video."),
                io.Boolean.Output(display_name="done", tooltip="Whether the run is complete, for loops and switches."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        tokens: Tokens,
        guider: Any,
        sampler: Any,
        steps: int,
        until: str | None = "steps",
        value: float | None = 0.5,
    ) -> io.NodeOutput:
        """Go on with the run."""
        from .host.model.masks import said_of
        from .host.stepping.goal import goal_of
        from .host.stepping.stepper import advance

        level = 0.5 if value is None else value
        goal = goal_of(until or "steps", steps, level, tokens.trajectory, guider.model_patcher)
        after = advance(tokens, guider, sampler, goal, lambda text: messages.show_text(cls, text))
        kept = said_of(guider.model_patcher, tokens.change)
        messages.show_text(cls, "\n".join([describe_run(after), *([kept] if kept else [])]))
        guess = denoised_latent(after)
        shown = patches_shown(after, model=guider.model_patcher, guess=lambda: guess, state=lambda: laid_out(after))
        return io.NodeOutput(after, guess, after.trajectory.done, ui=shown or None)


def describe_run(tokens: Tokens) -> str:
    """For example: step 3 of 20, sigma 0.91."""
    done, total = tokens.trajectory.position
    text = f"step {done} of {total}, sigma {tokens.trajectory.sigma:.4g}"
    return f"{text}\n{tokens.trajectory.note}" if tokens.trajectory.note else text


NODES: list[type[io.ComfyNode]] = [ForwardDiffusion, DenoiseStep]
