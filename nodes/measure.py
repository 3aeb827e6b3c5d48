"""Measure a video: by itself (seams, flicker, motion, drift), or against the one it should equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..models.metrics.report import Report
from . import sockets
from .checks import shown
from .host import messages
from .inputs import own_fps_input
from .schema import Node, schema

DIGITS = 12  # of the number of a frame

CATEGORY = "Spacetime/measure"
FRAMES = [io.Image, io.Video]


def frames_of(source: Any, bar: Any) -> Iterator[Tensor]:
    """The frames (H, W, 3) of a FrameSource one by one; the node's progress bar moves along."""
    for piece in source.pieces():
        messages.check_interrupted()
        yield from piece[..., :3]
        bar.update(len(piece))


def answer(node: Any, report: Report, *values: float) -> io.NodeOutput:
    """Report, numbers, text and plot as a node gives them."""
    from ..models.metrics.plot import plot

    text = report.text()
    messages.show_text(node, text)
    return io.NodeOutput(report, *values, text, plot(report), ui={"text": (text,)})


def remarked(report: Report, *sources: Any) -> Report:
    """A report with what is to be said of the files that were measured."""
    said = [text for source in sources for text in source.remarks()]
    return replace(report, remarks=(*report.remarks, *said))


def report_outputs(*numbers: Any) -> list[Any]:
    """Report first, then the numbers, then text and plot."""
    return [
        sockets.Report.Output(display_name="report", tooltip="All numbers with their units, also per frame."),
        *numbers,
        io.String.Output(display_name="text", tooltip="The report as text, for Preview as Text."),
        io.Image.Output(display_name="plot", tooltip="The numbers frame by frame as curves, for Preview Image."),
    ]


class MeasureVideo(Node):
    """Flicker, warp error, sharpness, drift, motion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeMeasureVideo",
            display_name="Measure Video",
            category=CATEGORY,
            description=(
                "Measures a video by itself, frame by frame: flicker (what comes and goes again), warp error (change "
                "that motion does not explain), dynamic degree (how much moves), sharpness, and how far colour, "
                "contrast and sharpness drift from the first second to the last. Nothing of it needs a reference."
            ),
            search_aliases=["flicker", "warp error", "optical flow", "sharpness", "colour drift", "dynamic degree"],
            rarely=["fps"],
            inputs=[
                io.MultiType.Input("frames", types=FRAMES, tooltip="The images or video to judge."),
                own_fps_input("Frames per second of images; a video brings its own."),
                io.Boolean.Input(
                    "motion",
                    default=True,
                    tooltip="Measure optical flow too (warp error, dynamic degree): most of the time it takes.",
                ),
            ],
            outputs=report_outputs(
                io.Float.Output(display_name="flicker", tooltip="Mean flicker, % of full scale."),
                io.Float.Output(display_name="colour_drift", tooltip="Last second against the first, % of full scale."),
            ),
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, frames: Any, fps: float, motion: bool) -> io.NodeOutput:
        """Stream the video once."""
        from ..models.metrics.video import measure_video
        from .host.vae import frames as video

        source = video.open_frames(frames)
        bar = messages.progress_bar(source.num_frames)
        report = remarked(measure_video(frames_of(source, bar), source.fps or fps, with_motion=motion), source)
        flicker = report.value("flicker") if any(one.name == "flicker" for one in report.measures) else 0.0
        return answer(cls, report, flicker, report.value("colour drift"))


class MeasureSeam(Node):
    """Change across a seam / median change."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeMeasureSeam",
            display_name="Measure Seam",
            category=CATEGORY,
            description=(
                "How visible is the seam of a loop, or the join between two parts of a video? The change across it "
                "divided by the median change between frames: about 1 where nothing is seen, several times that at a "
                "cut or a jump."
            ),
            search_aliases=["loop seam", "join", "cut", "seamless", "loop quality"],
            inputs=[
                io.MultiType.Input("frames", types=FRAMES, tooltip="The images or video to judge."),
                io.Combo.Input(
                    "where",
                    options=["loop", "joins"],
                    default="loop",
                    tooltip="loop: from the last frame to the first. joins: inside the video, at the frames below.",
                ),
                io.String.Input(
                    "joins", default="", tooltip="Frames that begin a new part, counted from 0, for example 17, 33."
                ),
            ],
            outputs=report_outputs(
                io.Float.Output(display_name="seam", tooltip="The worst seam in times the median change.")
            ),
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, frames: Any, where: str, joins: str) -> io.NodeOutput:
        """Stream the video once."""
        from ..models.metrics.seam import measure_joins, measure_loop
        from .host.vae import frames as video

        source = video.open_frames(frames)
        images = frames_of(source, messages.progress_bar(source.num_frames))
        places = [] if where == "loop" else whole_numbers(joins)
        report = measure_loop(images) if where == "loop" else measure_joins(images, places)
        return answer(cls, with_sound(remarked(report, source), source, places), report.value("seam"))


def with_sound(report: Report, source: Any, joins: list[int]) -> Report:
    """A report of seams with those of the video's sound, where it has one; joins: none for a loop."""
    import torch

    from ..models.metrics.sound_seam import measure_sound

    sound = source.sound()
    if sound is None or not source.fps:
        return report
    seconds = source.num_frames / source.fps
    samples = torch.from_numpy(sound.samples(seconds))
    times = [join / source.fps for join in joins] or [seconds]
    try:
        heard = measure_sound(samples, sound.rate, times, cyclic=not joins)
    except ValueError as error:
        return replace(report, remarks=(*report.remarks, str(error)))
    return replace(report, measures=(*report.measures, *heard))


def whole_numbers(text: str) -> list[int]:
    """Numbers from `3, 17 33`. ValueError for anything else."""
    words = text.replace(",", " ").split()
    if not all(word.removeprefix("-").isdecimal() and len(word) <= DIGITS for word in words):
        raise ValueError(f"joins must be whole numbers of frames, for example 17, 33; got {shown(text)}")
    return [int(word) for word in words]


NODES: list[type[io.ComfyNode]] = [MeasureVideo, MeasureSeam]
