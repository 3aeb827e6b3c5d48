"""What task nodes share: inputs that measure time, LATENT to clip and back."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...models.geometry import frame_of
from ...models.tasks.canvas import Canvas
from .. import sockets

CATEGORY = "Spacetime/tasks"


def fps_input() -> Any:
    """Frames per second, to turn seconds into latents."""
    return io.Float.Input(
        "fps", default=12.0, min=1.0, max=120.0, step=1.0, round=0.001, tooltip="Frames per second of the video."
    )


def seconds_input(name: str, default: float, tooltip: str, *, low: float = 0.0) -> Any:
    """A length of time."""
    return io.Float.Input(name, default=default, min=low, max=600.0, step=0.25, round=0.001, tooltip=tooltip)


def per_latent_input() -> Any:
    """How many frames one latent stands for."""
    return io.Int.Input(
        "frames_per_latent", default=4, min=1, max=16,
        tooltip="Frames that one latent stands for: 4 here, in Wan and HunyuanVideo; 8 in LTX-Video.",
    )  # fmt: skip


def clip_of(latent: dict[str, Any]) -> Tensor:
    """The samples of a video LATENT. ValueError for images of an image model."""
    samples: Tensor = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError("this latent holds sound and video in one: separate them and use the video")
    if samples.ndim != 5:
        raise ValueError(f"this latent has shape {tuple(samples.shape)}, which is no video: use a video VAE's")
    return samples


def latent_of(canvas: Canvas) -> dict[str, Any]:
    """A core LATENT with noise_mask, for any sampler."""
    loop = {sockets.LOOP: True} if canvas.cyclic else {}
    return {"samples": canvas.latents, "noise_mask": canvas.change, **loop}


def describe(canvas: Canvas, per_latent: int) -> str:
    """For example: 33 frames (9 latents), of which 5 latents are known."""
    total = canvas.latents.shape[2]
    frames = total * per_latent if canvas.cyclic else frame_of(total, per_latent)
    known = int((canvas.change.amax(dim=(0, 1, 3, 4)) == 0).sum())
    return f"{frames} frames ({total} latents), of which {known} latents are known"


def joined(latents: list[int], per_latent: int) -> str:
    """Where latents begin, in frames, as Measure Seam reads it."""
    return ", ".join(str(frame_of(latent, per_latent)) for latent in latents)
