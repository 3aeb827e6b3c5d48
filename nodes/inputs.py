"""Inputs of nodes of more than one room."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.geometry import FPS
from .schema import advanced


def fps_input() -> Any:
    """Frames per second of a clip that says it itself, to turn seconds into latents."""
    return advanced(
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=120.0,
            step=1.0,
            round=0.001,
            tooltip="Frames per second of the video. 0: as the clip says.",
        )
    )


def own_fps_input(tooltip: str = "Frames per second of the video.") -> Any:
    """Frames per second where no clip comes in that could say it."""
    return io.Float.Input("fps", default=FPS, min=1.0, max=120.0, step=1.0, round=0.001, tooltip=tooltip)
