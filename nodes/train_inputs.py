"""Inputs that the training nodes share, and the options of the training command that they stand for."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.extras import install
from ..models.training.run.ranges import CHOICES, limits
from .schema import advanced

CATEGORY = "Spacetime/train"
NUMBERS = list(CHOICES["dtype"])
LOGS = ["none", "tensorboard", "wandb", "tensorboard,wandb"]


def name(default: str) -> Any:
    """The name of a run."""
    return io.String.Input(
        "name", default=default, tooltip="Name of the run: letters, digits, _ and -. An existing run is continued."
    )


def preset(options: list[str], tip: str) -> Any:
    """The size of the network."""
    return io.Combo.Input("preset", options=options, default=options[0], tooltip=f"Size of the network: {tip}")


def steps(default: int) -> Any:
    """How long the run is."""
    return io.Int.Input("steps", default=default, **limits("steps"), tooltip="Optimiser steps of the whole run.")


def tokens(default: int, tip: str) -> Any:
    """How much a step learns from."""
    return io.Int.Input("tokens", default=default, **limits("tokens"), tooltip=tip)


def start_from(names: list[str], tip: str) -> Any:
    """What the run continues, or nothing."""
    return io.Combo.Input("start_from", options=["nothing", *names], default="nothing", tooltip=tip)


def rate() -> Any:
    """The learning rate."""
    return io.Float.Input(
        "learning_rate",
        default=1e-3,
        **limits("learning_rate"),
        step=1e-4,
        round=1e-6,
        tooltip="Lower it when the loss jumps or becomes nan; a third of it when continuing.",
    )


def losses() -> list[Any]:
    """What the VAE is trained to do beside reconstructing: optional, so that workflows saved without it still run."""
    found = [
        io.Float.Input(
            "images",
            default=0.3,
            **limits("images"),
            step=0.05,
            optional=True,
            tooltip="Share of the steps on images: stills of the folder and single frames of the clips.",
        ),
        io.Float.Input(
            "perceptual",
            default=0.0,
            **limits("perceptual"),
            step=0.05,
            round=0.001,
            optional=True,
            tooltip=(
                "Weight of the perceptual loss (VGG features), 0.5 is usual. It makes textures sharper and a step "
                f"slower, and needs: {install('stlpips-pytorch')}."
            ),
        ),
        io.Float.Input(
            "adversarial",
            default=0.0,
            **limits("adversarial"),
            step=0.05,
            round=0.001,
            optional=True,
            tooltip="Weight of a critic that tells clips from reconstructions; 0.2 is usual, for long runs.",
        ),
        io.Float.Input(
            "adversarial_from",
            default=0.5,
            **limits("adversarial_from"),
            step=0.05,
            optional=True,
            tooltip="Share of the run after which the critic comes in: before, there is only blur to criticise.",
        ),
    ]
    return [advanced(one) for one in found]


def common() -> list[Any]:
    """What every run has: checkpoints, a seed, a kind of numbers."""
    found = [
        io.Int.Input(
            "save_every",
            default=250,
            **limits("save_every"),
            tooltip="Steps between checkpoints and samples; a killed run loses at most the steps since the last.",
        ),
        io.Int.Input(  # not called seed: editors change that after each run, and another seed is another run
            "run_seed",
            display_name="seed",
            default=0,
            **limits("seed"),
            tooltip="Equal seeds make equal runs on the CPU.",
        ),
        io.Combo.Input(
            "numbers",
            display_name="precision",
            options=NUMBERS,
            default=NUMBERS[0],
            tooltip="bfloat16 is fast on GPUs and on CPUs with matrix units; float32 elsewhere.",
        ),
    ]
    return [advanced(one) for one in found]


def dit_extras() -> list[Any]:
    """Inputs that came later; workflows without them run as before."""
    return [
        io.Int.Input(
            "lora_rank",
            default=0,
            **limits("lora"),
            optional=True,
            tooltip=(
                "0 trains the whole model. Above 0 only a small addition of this rank to the model of start_from, "
                "which core's Load LoRA nodes list as spacetime/<name>."
            ),
        ),
        io.Boolean.Input(
            "classes",
            default=False,
            optional=True,
            tooltip="Label each clip with its class: the name of its sub-folder, or what happens in the toy world.",
        ),
        io.Boolean.Input(
            "packing",
            default=False,
            optional=True,
            tooltip="Clips of all sizes in every step, packed into one sequence, instead of one size per step.",
        ),
        io.Int.Input(
            "parts",
            default=1,
            **limits("accumulate"),
            optional=True,
            tooltip="Compute each step in so many parts, one after the other: the same result with less memory.",
        ),
        io.Boolean.Input(
            "checkpointing",
            default=False,
            optional=True,
            tooltip="Compute the blocks twice instead of keeping what they made: far less memory, a quarter slower.",
        ),
        io.Combo.Input(
            "log",
            options=LOGS,
            default=LOGS[0],
            optional=True,
            tooltip=(
                "Also keep a log for TensorBoard or Weights & Biases in the run's folder, which needs: "
                f"{install('tensorboard')}, or {install('wandb')}. "
                "Nothing is uploaded unless you have set WANDB_MODE yourself."
            ),
        ),
    ]


def checkpoint_outputs(model: str, vae: str) -> list[Any]:
    """What a checkpoint that was trained is loaded as; model, vae: what to say of these."""
    return [
        io.Model.Output(display_name="model", tooltip=model),
        io.Clip.Output(display_name="clip", tooltip="The text encoder."),
        io.Vae.Output(display_name="vae", tooltip=vae),
        io.String.Output(display_name="path", tooltip="The checkpoint file with both."),
    ]


def extra_arguments(lora_rank: int, parts: int, log: str, **switches: bool) -> list[str]:
    """Options for those inputs that are not at their default."""
    given = [f"--{name}" for name, on in switches.items() if on]
    for option, value, default in (("--lora", lora_rank, 0), ("--accumulate", parts, 1), ("--log", log, LOGS[0])):
        given += [] if value == default else [option, str(value)]
    return given


def shared_arguments(learning_rate: float, save_every: int, seed: int, numbers: str) -> list[str]:
    """The options for `rate` and `common`."""
    given = {"learning-rate": learning_rate, "save-every": save_every, "seed": seed, "dtype": numbers}
    return [part for option, value in given.items() for part in (f"--{option}", str(value))]


def latent_arguments(preset: str, steps: int, tokens: int) -> list[str]:
    """The options of a run on latents."""
    return ["--preset", preset, *length_arguments(steps, tokens)]


def length_arguments(steps: int, tokens: int) -> list[str]:
    """How long a run is. Over its first steps the learning rate rises: a short one cannot spare 100."""
    return ["--steps", str(steps), "--tokens", str(tokens), "--warmup", str(min(100, max(1, steps // 10)))]
