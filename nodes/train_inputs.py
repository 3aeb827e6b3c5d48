"""Inputs that the training nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

NUMBERS = ["bfloat16", "float32"]


def name(default: str) -> Any:
    """The name of a run."""
    return io.String.Input(
        "name", default=default, tooltip="Name of the run: letters, digits, _ and -. An existing run is continued."
    )


def preset(options: list[str], tip: str) -> Any:
    """The size of the network."""
    return io.Combo.Input("preset", options=options, default=options[0], tooltip=f"Size of the network: {tip}")


def rate() -> Any:
    """The learning rate."""
    return io.Float.Input(
        "learning_rate", default=1e-3, min=1e-6, max=0.1, step=1e-4, round=1e-6,
        tooltip="Lower it when the loss jumps or becomes nan; a third of it when continuing.",
    )  # fmt: skip


def losses() -> list[Any]:
    """What the VAE is trained to do beside reconstructing: optional, so that workflows saved without it still run."""
    return [
        io.Float.Input(
            "images", default=0.3, min=0.0, max=1.0, step=0.05, optional=True,
            tooltip="Share of the steps on images: stills of the folder and single frames of the clips.",
        ),
        io.Float.Input(
            "perceptual", default=0.0, min=0.0, max=10.0, step=0.05, round=0.001, optional=True,
            tooltip=(
                "Weight of the perceptual loss (VGG features), 0.5 is usual. It makes textures sharper and a step "
                "slower, and needs: pip install --no-deps stlpips-pytorch."
            ),
        ),
        io.Float.Input(
            "adversarial", default=0.0, min=0.0, max=10.0, step=0.05, round=0.001, optional=True,
            tooltip="Weight of a critic that tells clips from reconstructions; 0.2 is usual, for long runs.",
        ),
        io.Float.Input(
            "adversarial_from", default=0.5, min=0.0, max=1.0, step=0.05, optional=True,
            tooltip="Share of the run after which the critic comes in: before, there is only blur to criticise.",
        ),
    ]  # fmt: skip


def common() -> list[Any]:
    """What every run has: checkpoints, a seed, a kind of numbers."""
    return [
        io.Int.Input(
            "save_every", default=250, min=1, max=100_000,
            tooltip="Steps between checkpoints and samples; a killed run loses at most the steps since the last.",
        ),
        io.Int.Input(  # not called seed: editors change that after each run, and another seed is another run
            "run_seed", default=0, min=0, max=2**31 - 1, tooltip="Equal seeds make equal runs on the CPU.",
        ),
        io.Combo.Input(
            "numbers", options=NUMBERS, default=NUMBERS[0],
            tooltip="bfloat16 is fast on GPUs and on CPUs with matrix units; float32 elsewhere.",
        ),
    ]  # fmt: skip
