"""Videos longer than a model's own, in one run."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import host
from .schema import schema
from .tasks import CATEGORY


class ExtrapolateTime(io.ComfyNode):
    """MODEL -> MODEL for longer videos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
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
            inputs=[
                io.Model.Input("model", tooltip="This pack's model, Wan or HunyuanVideo."),
                io.Int.Input(
                    "trained_frames", default=0, min=0, max=10_000,
                    tooltip="Frames of the clips it was trained on. 0: what is known about the model.",
                ),
                io.Int.Input(
                    "frequency", default=0, min=0, max=256,
                    tooltip="Which one to slow down, 1 being the fastest. 0: the one that would come round.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model for longer videos.")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: Any, trained_frames: int, frequency: int) -> io.NodeOutput:
        """Slow it down in a clone."""
        from .host.extrapolate import extrapolate

        patched, frames = extrapolate(model, trained_frames, frequency)
        host.show_text(cls, f"changes videos of more than {frames} frames")
        return io.NodeOutput(patched)


NODES: list[type[io.ComfyNode]] = [ExtrapolateTime]
