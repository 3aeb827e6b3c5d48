"""Time as a circle."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...models.tasks import along_time
from ..host import messages
from ..host.latent import canvas_of, latent_of
from ..inputs import fps_input
from ..schema import schema
from .base import Task
from .inputs import CATEGORY, and_how_it_is_kept, and_still_open, describe, per_latent_input, seconds_input, vae_input


class LoopVideo(Task):
    """MODEL and LATENT -> both with time as a circle."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeLoopVideo",
            display_name="Loop Video",
            category=CATEGORY,
            description=(
                "Makes time a circle: after the last frame comes the first, without a seam. `generate` makes a loop of "
                "an empty latent (from text) or of Animate Image's; `close clip` keeps a clip and generates what leads "
                "from its end to its start. Decode with VAE Decode Video, which decodes loops round the circle. Use "
                "the model output too. This pack's model is seamless by construction; others shift time every step."
            ),
            search_aliases=["seamless loop", "perfect loop", "gif", "cinemagraph", "cyclic", "mobius", "tileable time"],
            rarely=["shift"],
            inputs=[
                io.Model.Input("model", tooltip="Any video model."),
                io.Latent.Input("latent", tooltip="From Empty Video, Animate Image, or a clip to close."),
                io.Combo.Input(
                    "mode",
                    options=["generate", "close clip"],
                    default="generate",
                    tooltip="Loop the latent as it is with its mask, or lead from a clip's end back to its start.",
                ),
                seconds_input("seconds", 1.0, "Close clip: how long the way back takes."),
                fps_input(),
                per_latent_input(),
                io.Int.Input(
                    "shift",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Other models: latents by which time is shifted each step. 0 chooses well.",
                ),
                vae_input(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model for which time is a circle."),
                io.Latent.Output(display_name="latent", tooltip="The loop to generate."),
                io.Int.Output(display_name="num_frames", tooltip="Frames of the loop; all latents are equally long."),
                io.String.Output(display_name="joins", tooltip="Close clip: the frame where the new part begins."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        latent: dict[str, Any],
        mode: str,
        seconds: float,
        fps: float,
        frames_per_latent: int,
        shift: int,
        vae: Any = None,
    ) -> io.NodeOutput:
        """Close the circle."""
        from ..host.model.levels import looped
        from ..host.time import clip_fps, clip_time

        time = clip_time(frames_per_latent, latent, vae=vae, model=model)
        fps = clip_fps(fps, latent, needed=mode != "generate")
        if mode == "generate":
            canvas, joins = (
                along_time.loop_new(canvas_of(latent, unmarked=1.0, again=True, fps=fps or None, time=time)),
                "",
            )
            text = describe(canvas, time)
        else:
            clip = canvas_of(latent, fps=fps, time=time)
            canvas = along_time.loop_clip(clip, time.gap_after(clip.length, seconds, fps))
            joins = str(time.count(clip.length - clip.first_is_single, cyclic=True))
            text = and_still_open(describe(canvas, time), clip)
        messages.show_text(cls, and_how_it_is_kept(text, model, canvas))
        frames = time.count(canvas.length, cyclic=True)
        return io.NodeOutput(looped(model, shift), latent_of(canvas), frames, joins)


NODES: list[type[io.ComfyNode]] = [LoopVideo]
