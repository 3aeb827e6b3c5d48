"""Editing tasks along time: which patches are known, how much they may change, where they lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...models.tasks import along_time
from ...models.tasks.in_space import region_of_pixels
from ..checks import shown
from ..host import messages
from ..host.latent import canvas_of, latent_of
from ..inputs import fps_input, own_fps_input
from ..schema import schema
from .base import Task
from .inputs import (
    CATEGORY,
    and_still_open,
    describe,
    joined,
    moment_of,
    per_latent_input,
    seconds_input,
    stretch,
    vae_input,
)


class AnimateImage(Task):
    """Stills at given times -> LATENT to generate the rest of."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeAnimateImage",
            display_name="Animate Image",
            category=CATEGORY,
            description=(
                "Makes a video of a still: its patches are known from the start, all others are generated. Several "
                "stills become keyframes: give each its time, for example `0, end` for first and last frame. The "
                "output is a latent with a mask, for KSampler or Patchify."
            ),
            search_aliases=["image to video", "i2v", "first frame", "last frame", "keyframes", "animate"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that will generate."),
                io.Image.Input("images", tooltip="One still, or a batch of keyframes of one size."),
                io.String.Input(
                    "times",
                    display_name="keyframe times",
                    default="0",
                    tooltip="When each still is shown, in seconds; `end` is the last moment.",
                ),
                seconds_input("seconds", 2.75, "Length of the video.", low=0.25),
                own_fps_input(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Only where it makes sound too (LTX-2, MiniMax-H3): the latent then has room for it.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The stills at their places, with a mask."),
                io.Float.Output(display_name="fps", tooltip="The same fps, to pass on."),
                io.Int.Output(display_name="num_frames", tooltip="The number of pixel frames."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, vae: Any, images: Tensor, times: str, seconds: float, fps: float, model: Any = None
    ) -> io.NodeOutput:
        """Encode each still by itself and put it in its place."""
        from ..host.sounding import picture_channels, with_silence
        from ..host.time import entries_of_time
        from ..host.vae.others import encode_still, time_of

        time = time_of(vae)
        total = max(time.least + time.step, time.nearest(seconds, fps))
        moments = times.replace(",", " ").split()
        if len(moments) != len(images):
            raise ValueError(
                f"{len(images)} stills and {len(moments)} times ({shown(times)}): give each still its time"
            )
        positions = [-1 if moment == "end" else time.holding(round(moment_of(moment) * fps)) for moment in moments]
        stills = [encode_still(vae, image[None]) for image in images]
        canvas = replace(along_time.animate(stills, positions, total), entries=entries_of_time(time, fps), time=time)
        if model is not None and picture_channels(model) is not None:
            canvas = with_silence(canvas, fps)
        messages.show_text(cls, describe(canvas, time))
        return io.NodeOutput(latent_of(canvas), fps, time.count(total))


class ExtendVideo(Task):
    """A clip with room before or after it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeExtendVideo",
            display_name="Extend Video",
            category=CATEGORY,
            description=(
                "Adds time before a clip, after it, or both. The clip is kept as it is and the model sees it while it "
                "generates the rest. Backward, the clip's first frame is generated anew, because a video VAE can hold "
                "a single frame only at the beginning of a video. For more than the model's own length use Extend Far."
            ),
            search_aliases=["continue video", "video continuation", "prequel", "outpaint time", "longer video"],
            inputs=[
                io.Latent.Input("latent", tooltip="The clip, from VAE Encode Video or from a sampler."),
                io.Combo.Input(
                    "direction",
                    options=["forward", "backward", "both"],
                    default="forward",
                    tooltip="After the clip, before it, or both (so much on each side).",
                ),
                seconds_input("seconds", 1.25, "How much to add.", low=0.05),
                fps_input(),
                per_latent_input(),
                vae_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The clip with room to generate in, and a mask."),
                io.String.Output(display_name="joins", tooltip="Frames where old and new meet, for Measure Seam."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, latent: dict[str, Any], direction: str, seconds: float, fps: float, frames_per_latent: int, vae: Any = None
    ) -> io.NodeOutput:
        """Lay the clip out in a longer one."""
        from ..host.time import clip_fps, clip_time

        fps, time = clip_fps(fps, latent), clip_time(frames_per_latent, latent, vae=vae)
        more = time.lasting(seconds, fps)
        before, after = more * (direction != "forward"), more * (direction != "backward")
        clip = canvas_of(latent, fps=fps, time=time)
        canvas = along_time.extend(clip, before, after)
        joins = ([before] if before else []) + ([canvas.length - after] if after else [])
        messages.show_text(cls, and_still_open(describe(canvas, time), clip))
        return io.NodeOutput(latent_of(canvas), joined(joins, time))


class Retake(Task):
    """A clip of which a stretch of time is made anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeRetake",
            display_name="Retake",
            category=CATEGORY,
            description=(
                "Makes a stretch of time of a clip anew, or a region in that stretch, and keeps all else: the model "
                "sees what comes before and after, so both ends join on. Another seed is another take; another prompt "
                "lets something else happen. For a change of look that keeps the motion use Restyle Video."
            ),
            search_aliases=["redo", "regenerate section", "replace shot", "inpaint time", "reshoot", "fix a part"],
            inputs=[
                io.Latent.Input("latent", tooltip="The clip, from VAE Encode Video or from a sampler."),
                seconds_input("start", 1.0, "Where the stretch begins."),
                seconds_input("end", 1.75, "Where it ends. 0: at the end of the clip."),
                fps_input(),
                per_latent_input(),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Make anew only what is in here: one frame, or one per video frame."
                ),
                vae_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The clip with a mask over the stretch, to sample."),
                io.String.Output(display_name="joins", tooltip="Frames where old and new meet, for Measure Seam."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        start: float,
        end: float,
        fps: float,
        frames_per_latent: int,
        mask: Tensor | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        """Free the stretch."""
        from ..host.time import clip_fps, clip_time

        clip, time = canvas_of(latent), clip_time(frames_per_latent, latent, vae=vae)
        ends = stretch(clip, start, end, clip_fps(fps, latent), time)
        canvas = along_time.retake(clip, *ends, None if mask is None else region_of_pixels(mask, clip, time))
        first, after = (time.count(latents, cyclic=clip.cyclic) for latents in ends)
        joins = [str(frame) for frame, at in zip((first, after), ends, strict=True) if 0 < at < clip.length]
        text = f"frames {first} to {after - 1} are made anew, {float(canvas.change.mean()):.0%} of the video"
        messages.show_text(cls, and_still_open(text, clip))
        return io.NodeOutput(latent_of(canvas), ", ".join(joins))


NODES: list[type[io.ComfyNode]] = [AnimateImage, ExtendVideo, Retake]
