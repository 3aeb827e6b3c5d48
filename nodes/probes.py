"""Does a model simulate its world? True clips to continue, and a judge for the continuations."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..models.geometry import FPS
from ..models.metrics.probe_cases import PROBES, cases
from ..models.metrics.simulation import measure_simulation
from . import sockets
from .host import messages
from .measure import CATEGORY, FRAMES, answer, report_outputs
from .schema import Node, schema


class ProbeClips(Node):
    """A probe's name -> true clips, the frames of each that are given, and its prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeProbeClips",
            display_name="Probe Clips",
            category=CATEGORY,
            description=(
                "Clips of the toy world to test a model with: it gets the first frames and continues them, and Measure "
                "Simulation compares what it makes with what happens in truth. No training has seen these scenes. The "
                "outputs are lists: what follows runs once per clip."
            ),
            search_aliases=["physics", "world model", "object permanence", "3d consistency", "simulation", "evaluate"],
            inputs=[
                io.Combo.Input(
                    "probe",
                    options=list(PROBES),
                    default="object permanence",
                    tooltip="What is tested. Those with a comma lie outside of what training shows.",
                ),
                io.Int.Input("count", default=3, min=1, max=64, tooltip="How many clips; the mean of few says little."),
                io.Int.Input("width", default=96, min=64, max=512, step=16, tooltip="Width in pixels."),
                io.Int.Input("height", default=96, min=64, max=512, step=16, tooltip="Height in pixels."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Which clips; the benchmark's are those of 0.",
                ),
            ],
            outputs=[
                sockets.Probe.Output(
                    display_name="probe", is_output_list=True, tooltip="The truth, for Measure Simulation."
                ),
                io.Image.Output(display_name="given", is_output_list=True, tooltip="The frames that a model gets."),
                io.Image.Output(display_name="truth", is_output_list=True, tooltip="The whole true clip."),
                io.String.Output(display_name="prompt", is_output_list=True, tooltip="A prompt for CLIP Text Encode."),
                io.Float.Output(display_name="seconds", tooltip="How much to add, for Extend Video."),
                io.Float.Output(display_name="fps", tooltip="Frames per second."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, probe: str, count: int, width: int, height: int, seed: int) -> io.NodeOutput:
        """Render the clips."""
        chosen = cases(probe, count, height=height, width=width, seed=seed)
        clips = [torch.from_numpy(case.truth.frames).float() / 255 for case in chosen]
        known, total = chosen[0].known, len(clips[0])
        messages.show_text(cls, f"{count} clips of {total} frames, {known} of them given")
        given, prompts = [clip[:known] for clip in clips], [case.prompt for case in chosen]
        return io.NodeOutput(chosen, given, clips, prompts, (total - known) / FPS, FPS)


class MeasureSimulation(Node):
    """Continuations beside the truth, a frozen and a shuffled one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeMeasureSimulation",
            display_name="Measure Simulation",
            category=CATEGORY,
            description=(
                "Judges continuations of Probe Clips from their pixels: does a thing that went behind a wall come out "
                "again, does a scene stay rigid when the camera moves, do falls, bounces and collisions go as "
                "mechanics says, do things stay what they are over a long time? Beside the model stand the true clip "
                "(the best that can be) and, as floors, a frozen picture and the true frames in random order."
            ),
            search_aliases=["physics", "world model", "object permanence", "3d consistency", "probe", "simulation"],
            inputs=[
                sockets.Probe.Input("probe", tooltip="From Probe Clips."),
                io.MultiType.Input(
                    "frames", types=FRAMES, tooltip="What the model made, beginning with the given frames."
                ),
            ],
            outputs=report_outputs(
                io.Float.Output(
                    display_name="solved", tooltip="First measure: 0 % is the better floor, 100 % is the true clip."
                )
            ),
            hidden=[io.Hidden.unique_id],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    def execute(cls, probe: list[Any], frames: list[Any]) -> io.NodeOutput:
        """Judge all clips together."""
        from .host.vae import frames as video

        clips = []
        for source in frames:
            messages.check_interrupted()
            pixels = torch.cat([piece[..., :3] for piece in video.open_frames(source).pieces()])
            clips.append(_as_bytes(pixels).numpy())
        report = measure_simulation(probe, clips)
        return answer(cls, report, next(m.value for m in report.measures if m.name.endswith("solved")))


def _as_bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().byte().cpu()


NODES: list[type[io.ComfyNode]] = [ProbeClips, MeasureSimulation]
