"""Videos against the one that they should equal: in numbers, and side by side in step on the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import isfinite
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..models.geometry import FPS
from ..models.metrics.report import Measure, Report
from . import sockets
from .host import messages
from .measure import CATEGORY, FRAMES, remarked
from .schema import Node, schema


@dataclass(frozen=True)
class Watched:
    """A FrameSource under a name, and the writer of what the node shows of it; None where that is written already."""

    name: str
    source: Any
    writer: Any = None

    def frames(self) -> Iterator[Tensor]:
        """Each frame (1, H, W, C); it is shown as well."""
        for piece in self.source.pieces():
            for frame in piece.split(1):
                if self.writer is not None:
                    self.writer.write(even(frame))
                yield frame


def even(frames: Tensor) -> Tensor:
    """Without the last row and column where their number is odd: H.264 wants even sides."""
    height, width = frames.shape[1:3]
    return frames[:, : max(height // 2 * 2, 2), : max(width // 2 * 2, 2)]


class CompareVideos(Node):
    """Two to four videos -> how alike they are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeCompareVideos",
            display_name="Compare Videos",
            category=CATEGORY,
            description=(
                "Measures how close a video is to the one it should equal, frame by frame: PSNR in dB (30 is fair, 40 "
                "is good, inf is equal) and SSIM (1 is equal). The longer video is trimmed at its end, the larger one "
                "at its borders, and the report says so."
            ),
            search_aliases=["psnr", "ssim", "video quality", "compare", "difference", "reconstruction error"],
            inputs=[
                io.MultiType.Input("frames", types=FRAMES, tooltip="The images or video to judge."),
                io.MultiType.Input("reference", types=FRAMES, tooltip="The images or video that it should equal."),
                io.MultiType.Input("third", types=FRAMES, optional=True, tooltip="Another one to judge."),
                io.MultiType.Input("fourth", types=FRAMES, optional=True, tooltip="Another one to judge."),
            ],
            outputs=[
                sockets.Report.Output(display_name="report", tooltip="All numbers, also per frame."),
                io.Float.Output(display_name="psnr", tooltip="Mean PSNR over the frames, dB."),
                io.Float.Output(display_name="ssim", tooltip="Mean SSIM over the frames."),
                io.String.Output(display_name="text", tooltip="The report as text, for Preview as Text."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, frames: Any, reference: Any, third: Any = None, fourth: Any = None) -> io.NodeOutput:
        """Stream each video beside the reference."""
        from .host.vae import frames as video

        given = {"frames": frames, "third": third, "fourth": fourth}
        reports, shown = [], []
        with ExitStack() as open_files:

            def watched(name: str, one: Any) -> Watched:
                source = video.open_frames(one)
                fps = source.fps or FPS
                writer = open_files.enter_context(video.VideoWriter(fps))
                size = {"width": source.width, "height": source.height}
                file = {"filename": writer.path.name, "subfolder": "", "type": "temp"}
                shown.append({"name": name, "fps": fps, **file, **size})
                return Watched(name, source, writer)

            first = watched("frames", frames)
            reports.append(compare(first, watched("reference", reference)))
            for name, one in list(given.items())[1:]:
                if one is not None:
                    reports.append(compare(watched(name, one), Watched("reference", video.open_frames(reference))))
        report = together(reports)
        text = report.text()
        messages.show_text(cls, text)
        curves = [{"name": one.name, "unit": one.unit, "values": finite(one.per_frame)} for one in report.measures]
        ui = {"text": (text,), "spacetime_videos": shown, "spacetime_measures": curves}
        return io.NodeOutput(report, report.value("PSNR"), report.value("SSIM"), text, ui=ui)


def finite(values: Sequence[float]) -> list[float | None]:
    """Numbers that JSON has; None for infinity, the PSNR of equal frames."""
    return [value if isfinite(value) else None for value in values]


def together(reports: list[Report]) -> Report:
    """One report of several: the first as it is, the others' measures and remarks under their names."""
    first, *others = reports
    measures = [replace(one, name=f"{one.name} of {report.title}") for report in others for one in report.measures]
    remarks = [f"{report.title}: {text}" for report in others for text in report.remarks]
    return Report("Compare Videos", (*first.measures, *measures), (*first.remarks, *remarks))


def compare(judged: Watched, reference: Watched) -> Report:
    """PSNR and SSIM of two videos over the frames and the area that they share; its title is the judged one's name."""
    from ..models.metrics.reference import psnr, ssim
    from .host.vae import frames as video

    a, b = judged.source, reference.source
    height, width = min(a.height, b.height), min(a.width, b.width)
    psnrs, ssims = [], []
    counts = [0, 0]
    for pair in zip_longest(judged.frames(), reference.frames()):
        messages.check_interrupted()
        counts = [count + (images is not None) for count, images in zip(counts, pair, strict=True)]
        if None in pair:  # one has ended: the rest of the other is only counted
            continue
        one, other = (video.crop_centre(images[..., :3], height, width) for images in pair)
        psnrs.append(float(psnr(one, other)))
        ssims.append(float(ssim(one, other)))
    remarks = [f"over {len(psnrs)} frames of {width} x {height}"]
    if counts[0] != counts[1]:
        remarks.append(f"the videos have {counts[0]} and {counts[1]} frames")
    if (a.width, a.height) != (b.width, b.height):
        sizes = f"{a.width} x {a.height} and {b.width} x {b.height}"
        remarks.append(f"the videos are {sizes}; the middle of the larger one was compared")
    mean = (sum(psnrs) / len(psnrs), sum(ssims) / len(ssims))
    measures = Measure("PSNR", mean[0], "dB", tuple(psnrs)), Measure("SSIM", mean[1], "", tuple(ssims))
    return remarked(Report(judged.name, measures, tuple(remarks)), a, b)


NODES: list[type[io.ComfyNode]] = [CompareVideos]
