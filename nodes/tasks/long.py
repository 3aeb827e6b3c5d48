"""Longer than a model's own length."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...models.geometry import Frames
from ...models.metrics.report import Measure, Report
from ...models.tasks.canvas import check_open
from ...models.tasks.far import Extended, Windows, extend_far
from ..host import messages
from ..host.latent import known_clip, made
from ..host.stopping import stoppable
from ..inputs import fps_input
from ..measure import answer, report_outputs
from ..schema import Node, schema
from .inputs import CATEGORY, per_latent_input, seconds_input, vae_input


class ExtendFar(Node):
    """A clip and a model -> a much longer clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeExtendFar",
            display_name="Extend Far",
            category=CATEGORY,
            description=(
                "Extends a clip by up to minutes: window after window, each sees the last latents of the one before. "
                "Nothing is decoded in between, and a window takes as much memory as any other. Colour and contrast "
                "are anchored to the source, and how far they drifted is reported. Prompts may change on the way."
            ),
            search_aliases=["long video", "one minute", "sliding window", "autoregressive", "infinite video"],
            rarely=["context", "anchor"],
            inputs=[
                io.Guider.Input("guider", tooltip="Model and prompt."),
                io.Sampler.Input("sampler", tooltip="Any sampler."),
                io.Sigmas.Input("sigmas", tooltip="The schedule of each window."),
                io.Noise.Input("noise", tooltip="Window n uses this seed + n."),
                io.Latent.Input("latent", tooltip="The clip to go on from."),
                io.Combo.Input(
                    "direction",
                    options=["forward", "backward"],
                    default="forward",
                    tooltip="After the clip or before it.",
                ),
                seconds_input("seconds", 10.0, "How much to add.", low=0.05),
                seconds_input("window", 2.75, "Length that the model takes at a time, as it was trained.", low=0.25),
                seconds_input("context", 1.0, "How much of a window is known from before.", low=0.05),
                io.Float.Input(
                    "anchor",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How far new latents are brought back to the clip's colours and contrast.",
                ),
                fps_input(),
                per_latent_input(),
                io.Clip.Input("clip", optional=True, tooltip="Only for prompts below."),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="A prompt per line and window; the last one stays. Empty: the guider's own.",
                ),
                vae_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The whole video, for VAE Decode Video (video file)."),
                *report_outputs(
                    io.Float.Output(
                        display_name="drift",
                        tooltip="How far the last window drifted from the clip, in standard deviations.",
                    )
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        guider: Any,
        sampler: Any,
        sigmas: Tensor,
        noise: Any,
        latent: dict[str, Any],
        direction: str,
        seconds: float,
        window: float,
        context: float,
        anchor: float,
        fps: float,
        frames_per_latent: int,
        clip: Any = None,
        prompts: str = "",
        vae: Any = None,
    ) -> io.NodeOutput:
        """Go window by window."""
        from ..host.far import encode_prompts, window_sampler
        from ..host.model.masks import check_mask, mask_reading
        from ..host.time import clip_fps, clip_time

        time = clip_time(frames_per_latent, latent, vae=vae, model=guider.model_patcher)
        fps = clip_fps(fps, latent)
        given = known_clip(latent, "extend", fps=fps, time=time)
        check_open(given, "extend")
        check_mask(guider.model_patcher, (one for entries in guider.original_conds.values() for one in entries))
        windows, more = windows_of(time, given.length, window, context, anchor, fps), time.lasting(seconds, fps)
        backward = direction == "backward"
        total = windows.count(more, backward=backward and given.first_is_single)
        words = encode_prompts(clip, prompts, total)
        generate = window_sampler(
            guider,
            sampler,
            sigmas,
            noise,
            words,
            lambda index: messages.show_text(cls, f"window {index + 1} of {total}"),
        )
        with stoppable() as stopped:
            extended = extend_far(given, more, windows, generate, backward=backward, enough=stopped)
        reported = answer(
            cls, drift_report(extended, windows, mask_reading(guider.model_patcher).sentence), extended.drift[-1]
        )
        sound = None if extended.sound is None else extended.sound.latents
        whole = made(extended.latents, entries=given.entries, sound=sound)
        return io.NodeOutput(whole, *reported.result, ui=reported.ui)


def windows_of(time: Frames, length: int, window: float, context: float, anchor: float, fps: float) -> Windows:
    """Windows of a clip of `length` latents, from seconds: what a window adds is whole rounds of the clip's time."""
    known, whole = time.overlap_of(length, context, fps), time.lasting(window, fps)
    if time.step == 1:
        return Windows(window=whole + 1, context=known, anchor=anchor)  # the first frame has a latent of its own
    rounds = max(1, (whole + time.least - known) // time.step)
    return Windows(window=known + rounds * time.step, context=known, anchor=anchor)


def drift_report(extended: Extended, windows: Windows, kept: str = "") -> Report:
    """How far each window was from the source before it was brought back; kept: how its model treats known places."""
    return Report(
        "Extend Far",
        (Measure("drift of the last window", extended.drift[-1], "deviations of the source", extended.drift),),
        (
            f"{len(extended.drift)} windows of {windows.window} latents, {windows.context} of them known",
            f"{extended.latents.shape[2]} latents in all, anchored by {windows.anchor:g}",
            *([kept] if kept else []),
        ),
    )


class ExtrapolateTime(Node):
    """MODEL -> MODEL for longer videos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeExtrapolateTime",
            display_name="Extrapolate Time",
            category=CATEGORY,
            description=(
                "For videos up to about twice as long as those that a model was trained on, in one run. One of the "
                "frequencies by which it tells frames apart comes round after its usual length, which makes longer "
                "videos start again; that one is slowed down (RIFLEx). Shorter videos stay as they are. Whether it "
                "helps depends on the model: compare with and without. Extend Far goes on much further."
            ),
            search_aliases=["riflex", "longer video", "rope", "length extrapolation", "more frames"],
            rarely=["frequency"],
            inputs=[
                io.Model.Input("model", tooltip="This pack's model, Wan or HunyuanVideo."),
                io.Int.Input(
                    "trained_frames",
                    default=0,
                    min=0,
                    max=10_000,
                    tooltip="Frames of the clips it was trained on. 0: what is known about the model.",
                ),
                io.Int.Input(
                    "frequency",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="Which frequency to slow down; 1 is the fastest. 0: the one that would repeat the clip.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model for longer videos.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, trained_frames: int, frequency: int) -> io.NodeOutput:
        """Slow it down in a clone."""
        from ..host.model.extrapolate import extrapolate

        patched, frames = extrapolate(model, trained_frames, frequency)
        messages.show_text(cls, f"changes videos of more than {frames} frames")
        return io.NodeOutput(patched)


NODES: list[type[io.ComfyNode]] = [ExtendFar, ExtrapolateTime]
