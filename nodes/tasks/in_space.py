"""Editing tasks in space and in strength, and what a change level means."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...models.tasks import in_space
from ...models.tasks.levels import LEVELS, as_levels
from ..host import messages
from ..host.formats import side_of
from ..host.latent import canvas_of, latent_of
from ..inputs import fps_input
from ..schema import Node, schema
from .base import Task
from .inputs import (
    CATEGORY,
    and_how_it_is_kept,
    and_still_open,
    describe,
    per_latent_input,
    seconds_input,
    sound_input,
    vae_input,
)

MEANINGS = (
    "gate: a place stays clean until the noise has come down to its level, then starts from there (SDEdit, per patch). "
    "clamp: the same, but the model sees it noisy while it waits (LTX-Video). "
    "scale: noise and steps shrink alike (what ComfyUI and LTX-2 do). "
    "binary: at 0.5 and above all, below nothing (Wan 2.2)."
)


def levels_input(default: str) -> Any:
    """Which meaning levels between 0 and 1 have."""
    return io.Combo.Input("levels", options=list(LEVELS), default=default, tooltip=MEANINGS)


class ChangeLevels(Node):
    """MODEL -> MODEL that reads mask values between 0 and 1 in another way."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeChangeLevels",
            display_name="Change Levels",
            category=CATEGORY,
            description=(
                "Says what a mask value between 0 (keep) and 1 (generate) means to a model. Systems differ: ComfyUI "
                "scales noise and steps; others wait for the noise to come down to the level. 0 and 1 mean the same "
                "everywhere. Works on any model and with any sampler."
            ),
            search_aliases=[
                "differential diffusion",
                "soft inpainting",
                "mask strength",
                "denoise mask",
                "noise level",
            ],
            inputs=[io.Model.Input("model", tooltip="Any model."), levels_input("gate")],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with these levels.")],
        )

    @classmethod
    def execute(cls, model: Any, levels: str) -> io.NodeOutput:
        """Hang the meaning into a clone."""
        from ..host.model.levels import with_levels

        return io.NodeOutput(with_levels(model, as_levels(levels)))


class RestyleVideo(Task):
    """A clip that may change by so much."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeRestyleVideo",
            display_name="Restyle Video",
            category=CATEGORY,
            description=(
                "Lets a clip change by a strength towards the prompt (SDEdit): it is noised up to that level and "
                "denoised from there, so layout and motion stay and the look changes. In a region and in a range of "
                "time if wanted; all else is kept. Use the model output too, and sample with the full schedule."
            ),
            search_aliases=["video to video", "vid2vid", "sdedit", "denoise strength", "edit video", "style"],
            rarely=["levels"],
            inputs=[
                io.Model.Input("model", tooltip="Any video model."),
                io.Latent.Input("latent", tooltip="The clip to change."),
                io.Float.Input(
                    "strength",
                    default=0.7,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="The noise level to start from: 0.5 keeps most, 0.8 little, 1 nothing.",
                ),
                seconds_input("start", 0.0, "Where the change begins."),
                seconds_input("end", 0.0, "Where it ends. 0: at the end of the clip."),
                fps_input(),
                levels_input("gate"),
                per_latent_input(),
                io.Mask.Input("mask", optional=True, tooltip="Change only here: one frame or one per video frame."),
                vae_input(),
                sound_input("keep"),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model that understands the levels."),
                io.Latent.Output(display_name="latent", tooltip="The clip with a mask of change levels."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        latent: dict[str, Any],
        strength: float,
        start: float,
        end: float,
        fps: float,
        levels: str,
        frames_per_latent: int,
        mask: Tensor | None = None,
        vae: Any = None,
        sound: str = "keep",
    ) -> io.NodeOutput:
        """Set the levels."""
        from ..host.model.levels import with_levels
        from ..host.time import clip_fps, clip_time

        time = clip_time(frames_per_latent, latent, vae=vae, model=model)
        fps = clip_fps(fps, latent, needed=bool(start or end))
        clip = canvas_of(latent, fps=fps or None, time=time)
        region = None if mask is None else in_space.region_of_pixels(mask, clip, time)
        first, last = (time.holding(round(seconds * fps), cyclic=clip.cyclic) for seconds in (start, end))
        after = last + 1
        stop = clip.length if end == 0 else min(clip.length, after)
        canvas = in_space.restyle(clip, strength, region, first, stop)
        if sound == "change":
            canvas = canvas.sound_freed(strength, first, stop)
        text = describe(canvas, time)
        if region is not None and not bool(region.any()):
            text = f"{text}\nthe mask is empty, so nothing changes: paint what may"
        messages.show_text(cls, and_how_it_is_kept(and_still_open(text, clip), model, canvas))
        return io.NodeOutput(with_levels(model, as_levels(levels)), latent_of(canvas))


class FillRegion(Task):
    """A clip with a hole to be filled."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeFillRegion",
            display_name="Fill Region",
            category=CATEGORY,
            description=(
                "Generates a region of a clip anew and keeps the rest. The region is a mask over the picture, the same "
                "for all frames or a frame of mask per video frame, so it can move. A patch is generated whole as "
                "soon as the mask touches it."
            ),
            search_aliases=["inpaint video", "remove object", "replace object", "video inpainting", "mask"],
            inputs=[
                io.Latent.Input("latent", tooltip="The clip."),
                io.Mask.Input("mask", tooltip="1 where to generate: one frame, or as many as the video has."),
                per_latent_input(),
                vae_input(),
                sound_input("keep"),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The clip with a mask, for any sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, latent: dict[str, Any], mask: Tensor, frames_per_latent: int, vae: Any = None, sound: str = "keep"
    ) -> io.NodeOutput:
        """Find the patches that the mask touches."""
        from ..host.time import clip_time

        time = clip_time(frames_per_latent, latent, vae=vae)
        clip = canvas_of(latent, time=time)
        region = in_space.region_of_pixels(mask, clip, time)
        canvas = in_space.fill(clip, region)
        if sound == "change":
            canvas = canvas.sound_freed_with(region)
        messages.show_text(cls, and_still_open(f"{float(canvas.change.mean()):.0%} of the video is generated", clip))
        return io.NodeOutput(latent_of(canvas))


class Outpaint(Task):
    """A clip with room around it."""

    @classmethod
    def define_schema(cls) -> io.Schema:

        def side(name: str) -> Any:
            return io.Int.Input(name, default=0, min=0, max=2048, step=16, tooltip=f"Pixels to add: {name}.")

        return schema(
            node_id="SpacetimeOutpaint",
            display_name="Outpaint Video",
            category=CATEGORY,
            description=(
                "Adds picture around a clip, to change its aspect ratio or to show more: the clip's patches are known "
                "and those around them are generated. An overlap lets the clip's border change too, which hides it."
            ),
            search_aliases=["outpaint", "aspect ratio", "uncrop", "widescreen", "expand canvas", "zoom out"],
            rarely=["pixels_per_latent"],
            inputs=[
                io.Latent.Input("latent", tooltip="The clip."),
                side("left"),
                side("top"),
                side("right"),
                side("bottom"),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    max=512,
                    step=16,
                    tooltip="Pixels of the clip's border, on the sides that grow, that may change too.",
                ),
                io.Int.Input(
                    "pixels_per_latent",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Pixels per latent: 8 here and in most models, 16 in Wan 2.2 5B, 32 in LTX-Video. 0: auto.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The clip with room around it, and a mask."),
                io.Int.Output(display_name="width", tooltip="New width in pixels."),
                io.Int.Output(display_name="height", tooltip="New height in pixels."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, latent: dict[str, Any], left: int, top: int, right: int, bottom: int, overlap: int, pixels_per_latent: int
    ) -> io.NodeOutput:
        """Lay the clip out on a larger grid."""
        clip, pixels = canvas_of(latent), (left, top, right, bottom, overlap)
        side = pixels_per_latent or side_of(clip.latents.shape[1])
        if any(size % side for size in pixels):
            raise ValueError(f"{pixels} pixels to add: each must be a multiple of {side}, the side of a latent here")
        canvas = in_space.outpaint(clip, *(size // side for size in pixels))
        height, width = (size * side for size in canvas.latents.shape[-2:])
        text = f"{width} x {height}, {float(canvas.change.mean()):.0%} of it generated"
        messages.show_text(cls, and_still_open(text, clip))
        return io.NodeOutput(latent_of(canvas), width, height)


NODES: list[type[io.ComfyNode]] = [RestyleVideo, FillRegion, Outpaint, ChangeLevels]
