"""Prompts and guidance that differ over a video: in time, and in regions."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..models.tasks.canvas import Canvas
from ..models.tasks.in_space import region_of_pixels
from ..models.tasks.prompts import Clock, Key, covered, parse_keys, parse_scales, shares_in, shares_over_time
from ..models.tasks.track import heard_beside
from .host import messages
from .host.latent import canvas_of
from .inputs import fps_input, own_fps_input
from .schema import Node, schema
from .tasks.inputs import per_latent_input, seconds_input, vae_input

CATEGORY = "Spacetime/sampling"
PROMPTS = "0: a red ball rolls to the right\n1.5: a blue ball rolls to the left"


def _ways() -> list[Any]:
    """How several prompts become one answer: optional, so that workflows saved without it still run."""
    return [
        io.Combo.Input(
            "method",
            options=["mix answers", "attention"],
            default="mix answers",
            optional=True,
            tooltip=(
                "mix answers: the model runs once for each prompt; it follows them best. attention: one run, "
                "each patch attends to its own prompt; this pack's model alone."
            ),
        ),
        io.Float.Input(
            "contrast",
            default=0.5,
            min=0.0,
            max=4.0,
            step=0.1,
            round=0.001,
            optional=True,
            tooltip="mix answers only: how far each place is led away from the prompts of the others. 0: not.",
        ),
    ]


class PromptOverTime(Node):
    """Lines of text with times -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimePromptOverTime",
            display_name="Prompt Over Time",
            category=CATEGORY,
            description=(
                "Gives each stretch of a video, or a region of it, a prompt of its own, in one run. The model is run "
                "once for each text, and its answers are mixed by masks over time and space; with this pack's model "
                "each patch can attend to its own text instead. The node says which. Chain nodes by `base` for "
                "several regions."
            ),
            search_aliases=[
                "prompt travel",
                "prompt schedule",
                "prompt keyframes",
                "regional prompt",
                "area prompt",
                "prompt fade",
                "multi prompt",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model that will sample; it decides how the prompts are given."),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Latent.Input("latent", tooltip="The latent that will be sampled: its size and length are used."),
                io.String.Input(
                    "prompts",
                    default=PROMPTS,
                    multiline=True,
                    tooltip=(
                        "A line per prompt. `1.5: text` holds from 1.5 s until the next line, `1-2.5: text` in that "
                        "range."
                    ),
                ),
                seconds_input("fade", 0.0, "How long one prompt takes to turn into the next. 0: at once."),
                fps_input(),
                per_latent_input(),
                io.Conditioning.Input(
                    "base", optional=True, tooltip="What holds outside of the mask, and at times without a line."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The prompts hold only here: one frame, or one per video frame. Needs `base`.",
                ),
                vae_input(),
                *_ways(),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="For `positive` or `negative` of a guider.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        latent: dict[str, Any],
        prompts: str,
        fade: float,
        fps: float,
        frames_per_latent: int,
        base: Any = None,
        mask: Tensor | None = None,
        vae: Any = None,
        method: str = "mix answers",
        contrast: float = 0.5,
    ) -> io.NodeOutput:
        """Say who answers to what."""
        from .host.model.prompts import placed_prompts
        from .host.time import clip_fps, clip_time

        if mask is not None and base is None:
            raise ValueError("a mask says where these prompts hold: connect `base` for all that lies outside of it")
        time = clip_time(frames_per_latent, latent, vae=vae, model=model)
        fps = clip_fps(fps, latent)
        canvas = canvas_of(latent, fps=fps, time=time)
        clock = Clock(canvas.length, fps, time, canvas.cyclic)
        segments = covered(parse_keys(prompts, "a blue ball"), clock, gaps=base is not None)
        region = None if mask is None else region_of_pixels(mask, canvas, time)
        shares = shares_of(canvas, segments, clock, fade, region)
        conditioning, texts = placed_prompts(model, clip, shares, base, method, contrast)
        messages.show_text(cls, described(texts, clock, method))
        return io.NodeOutput(conditioning)


def shares_of(
    canvas: Canvas, segments: list[Key], clock: Clock, fade: float, region: Tensor | None
) -> dict[str, Tensor]:
    """The share of each text in each place of a clip: (T, H, W), or (N,) over picture and sound where it has both.

    Sound answers to the prompts of its time; to those of a region as much as that covers of the picture.
    """
    shares = shares_in(shares_over_time(segments, clock, fade), canvas.latents, region)
    track = canvas.sound
    if track is None:
        return shares
    from .host.sounding import in_both

    own = clock.of_sound(track.latents.shape[2], track.per_frame * clock.fps)
    beside = None if region is None else heard_beside(region, track, cyclic=canvas.cyclic)
    heard = shares_in(shares_over_time(segments, own, fade), track.latents, beside)
    return in_both(canvas.latents, track.latents, shares, heard)


def described(texts: int, clock: Clock, method: str) -> str:
    """How many prompts hold in a video, and by which way the model gets them."""
    if texts < 2:
        return f"one prompt for all {clock.seconds:.4g} s"
    if method == "attention":
        return f"{texts} prompts in {clock.seconds:.4g} s: each patch attends to its own"
    return f"{texts} prompts in {clock.seconds:.4g} s: the model runs once for each, and masks mix its answers"


class GuidanceOverTime(Node):
    """MODEL -> MODEL that is guided more strongly at some times than at others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeGuidanceOverTime",
            display_name="Guidance Over Time",
            category=CATEGORY,
            description=(
                "Gives each time of a video a guidance scale of its own, in straight lines between the times that are "
                "written down. It takes the place of the guider's cfg wherever that is on (not 1). Works on any model, "
                "and with all modes of Guider."
            ),
            search_aliases=["cfg schedule", "cfg over frames", "linear cfg", "min cfg", "video cfg"],
            inputs=[
                io.Model.Input("model", tooltip="Any video model."),
                io.String.Input(
                    "scales",
                    default="0: 2\n2: 4",
                    multiline=True,
                    tooltip="A line per time: `1.5: 4` is scale 4 at 1.5 s. 1 is no guidance.",
                ),
                own_fps_input(),
                per_latent_input(),
                vae_input(),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For Guider, KSampler or any other sampler.")],
        )

    @classmethod
    def execute(cls, model: Any, scales: str, fps: float, frames_per_latent: int, vae: Any = None) -> io.NodeOutput:
        """Patch a clone."""
        from .host.model.guidance_over_time import with_scales
        from .host.time import clip_time

        time = clip_time(frames_per_latent, vae=vae, model=model)
        return io.NodeOutput(with_scales(model, parse_scales(scales), fps, time))


NODES: list[type[io.ComfyNode]] = [PromptOverTime, GuidanceOverTime]
