"""What task nodes share: inputs that measure time, what they say of a clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...models.geometry import Frames
from ...models.tasks.canvas import Canvas
from ..checks import shown
from ..schema import advanced

CATEGORY = "Spacetime/tasks"
SOUND = ["keep", "change"]
LATEST = 86_400.0  # seconds; a clip is shorter


def seconds_input(name: str, default: float, tooltip: str, *, low: float = 0.0) -> Any:
    """A length of time."""
    return io.Float.Input(name, default=default, min=low, max=600.0, step=0.25, round=0.001, tooltip=tooltip)


def per_latent_input() -> Any:
    """How many frames one latent stands for."""
    return advanced(
        io.Int.Input(
            "frames_per_latent",
            default=0,
            min=0,
            max=16,
            tooltip=(
                "Frames that one latent stands for. 0: auto, asked from the VAE, the clip or the model. By hand: 4 "
                "here, in Wan and HunyuanVideo; 8 in LTX-Video."
            ),
        )
    )


def moment_of(text: str) -> float:
    """A time in seconds from a text. ValueError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LATEST:
        raise ValueError(f"{shown(text)} is no time: write seconds from 0 to {LATEST:g}, or `end`")
    return value


def stretch(clip: Canvas, start: float, end: float, fps: float, time: Frames) -> tuple[int, int]:
    """The latents that hold the frames between two times in seconds, as (first, after); `end` 0 is that of the clip.

    ValueError for a stretch that is not in the clip.
    """
    frames = time.count(clip.length, cyclic=clip.cyclic)
    first, last = round(start * fps), (round(end * fps) if end else frames) - 1  # the frame at `end` is kept
    if not first <= last or first >= frames:
        raise ValueError(
            f"{start:g} s to {end or frames / fps:.4g} s is no stretch of a clip of {frames / fps:.4g} s: begin before "
            "the clip is over, and end after the beginning"
        )
    held = time.holding(first, cyclic=clip.cyclic), time.holding(min(last, frames - 1), cyclic=clip.cyclic)
    return held[0], held[1] + 1


def vae_input() -> Any:
    """The VAE of a clip, to be asked."""
    return io.Vae.Input(
        "vae",
        optional=True,
        tooltip="The VAE of the clip, to ask how many frames a latent stands for, where frames_per_latent is 0.",
    )


def sound_input(default: str) -> Any:
    """What becomes of the sound of a clip that has one."""
    return advanced(
        io.Combo.Input(
            "sound",
            options=SOUND,
            default=default,
            optional=True,
            tooltip="Of a clip with sound: keep it, or let it change at the same times as the picture.",
        )
    )


def describe(canvas: Canvas, time: Frames) -> str:
    """For example: 33 frames (9 latents), of which 5 latents are known."""
    frames = time.count(canvas.length, cyclic=canvas.cyclic)
    known = int((canvas.change.amax(dim=(0, 1, 3, 4)) == 0).sum())
    text = f"{frames} frames ({canvas.length} latents), of which {known} latents are known"
    if canvas.sound is None:
        return text
    heard = float((canvas.sound.change == 0).float().mean())
    return f"{text}; of its sound ({canvas.sound.latents.shape[2]} latents) {heard:.0%}"


def and_still_open(text: str, given: Canvas) -> str:
    """What a task says, and what it leaves to be generated because it was so in the clip that came in."""
    share = float((given.change > 0).float().mean())
    return f"{text}\n{share:.0%} of the clip was still to be generated and stays so" if share else text


def and_how_it_is_kept(text: str, model: Any, canvas: Canvas) -> str:
    """What a task says, and how its model treats the places that are kept, where that is not what it seems."""
    from ..host.model.masks import said_of

    kept = said_of(model, canvas.change)
    return f"{text}\n{kept}" if kept else text


def joined(latents: list[int], time: Frames) -> str:
    """Where latents begin, in frames, as Measure Seam reads it."""
    return ", ".join(str(time.count(latent)) for latent in latents)
