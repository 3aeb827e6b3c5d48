"""Two clips made one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...models.tasks import along_time
from .. import sockets
from ..host import messages
from ..host.latent import canvas_of, latent_of
from ..inputs import fps_input
from ..schema import schema
from .base import Task
from .inputs import CATEGORY, and_how_it_is_kept, and_still_open, describe, joined, per_latent_input, seconds_input


class ConnectVideos(Task):
    """Two clips -> one, with what lies between them to be generated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeConnectVideos",
            display_name="Connect Videos",
            category=CATEGORY,
            description=(
                "Leads from one clip to another. `gap` generates new time between them. `blend` lets both play at "
                "once while one turns into the other: over the overlap the content goes from the first clip to the "
                "second, and the model is free to change it, most of all halfway."
            ),
            search_aliases=["transition", "morph", "interpolate videos", "join videos", "blend videos", "in-between"],
            inputs=[
                io.Latent.Input("first", tooltip="The clip to begin with."),
                io.Latent.Input("second", tooltip="The clip to end with, of the same size and frame rate."),
                io.Combo.Input(
                    "method",
                    options=["gap", "blend"],
                    default="gap",
                    tooltip="New time between the clips, or an overlap in which one turns into the other.",
                ),
                seconds_input("seconds", 1.0, "Length of the gap or of the overlap."),
                io.Float.Input(
                    "strength",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Blend only: how far the middle may leave both clips. 0: a plain cross-fade.",
                ),
                fps_input(),
                per_latent_input(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Blend only: the model, which comes out with levels that mean what a blend needs (clamp).",
                ),
                io.Float.Input(
                    "second_fps",
                    optional=True,
                    force_input=True,
                    tooltip="Frames per second of the second clip, to be sure that both agree.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "The VAE of the clips, to ask how many frames a latent stands for. And in a blend the clips "
                        "then fade frame by frame, else in one step per latent."
                    ),
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="Both clips and what lies between, with a mask."),
                io.Model.Output(display_name="model", tooltip="The model for a blend; as it came in for a gap."),
                io.String.Output(display_name="joins", tooltip="Frames where old and new meet, for Measure Seam."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        first: dict[str, Any],
        second: dict[str, Any],
        method: str,
        seconds: float,
        strength: float,
        fps: float,
        frames_per_latent: int,
        model: Any = None,
        second_fps: float | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        """Lay both clips out."""
        from ..host.time import clip_fps, clip_time

        fps = clip_fps(fps, first, second)
        if second_fps is not None and abs(second_fps - fps) > 0.01:
            raise ValueError(
                f"the clips have {fps:g} and {second_fps:g} frames per second: bring them to the same rate"
            )
        first, second = ({**clip, sockets.FPS: fps} for clip in (first, second))
        time = clip_time(frames_per_latent, first, second, vae=vae, model=model)
        a, b = (canvas_of(clip, fps=fps, time=time) for clip in (first, second))
        lasting = time.gap_after if method == "gap" else time.overlap_of
        count = lasting(a.length, seconds, fps)
        if method == "gap":
            canvas, begin = along_time.connect_gap(a, b, count), a.length
        else:
            if model is None:
                raise ValueError("a blend needs levels that a sampler does not give by itself: connect `model` here")
            from ..host.model.levels import with_levels
            from ..host.vae.others import fading

            between = None if vae is None else fading(vae, a.latents, b.latents, count)
            canvas, begin = along_time.connect_blend(a, b, count, strength, between), a.length - count
            model = with_levels(model, "clamp")
        text = describe(canvas, time)
        text = and_still_open(text, max(a, b, key=lambda clip: float(clip.change.mean())))
        messages.show_text(cls, text if model is None else and_how_it_is_kept(text, model, canvas))
        return io.NodeOutput(latent_of(canvas), model, joined([begin, begin + count], time))


NODES: list[type[io.ComfyNode]] = [ConnectVideos]
