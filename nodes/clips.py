"""Clips to train on: a folder of video files, or the toy world."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..models.geometry import FPS
from ..models.training.run.ranges import limits
from . import sockets
from .host import folders, messages
from .schema import Node, schema

CATEGORY = "Spacetime/train"
SHOWN = 12  # clips of a contact sheet
SIZE_NAME = "width x height x length"
SIZE_TIP = (
    "Width x height x frames of the clips to train on: sides multiples of 16, frames 1 + 4k. Several, with commas, are "
    "buckets: 64x64x17,96x64x17,64x64x1."
)


class ClipsFromFolder(Node):
    """A folder of video files -> SPACETIME_CLIPS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeClipsFromFolder",
            display_name="Clips From Folder",
            category=CATEGORY,
            description=(
                "Your own video files as clips to train on. Files of any size and frame rate are cut at scene changes, "
                "scaled and cropped. Captions are the lines of a .txt beside a file, else the name of its sub-folder. "
                "Files that cannot be read are skipped and listed."
            ),
            search_aliases=["dataset", "load clips", "video folder", "training data", "captions"],
            rarely=["max_clips"],
            inputs=[
                io.String.Input(
                    "folder",
                    default="clips",
                    tooltip=(
                        "A folder in ComfyUI's input folder, or in one listed under spacetime_clips in "
                        "extra_model_paths.yaml. example stands for the few clips that come with the pack."
                    ),
                ),
                io.String.Input("size", display_name=SIZE_NAME, default="64x64x17", tooltip=SIZE_TIP),
                io.Float.Input(
                    "fps",
                    default=FPS,
                    **limits("fps"),
                    step=1.0,
                    round=0.001,
                    tooltip="Frames per second of the clips. 17 frames at 12 fps are 1.4 seconds.",
                ),
                io.Int.Input(
                    "max_clips",
                    default=400,
                    **limits("clips"),
                    tooltip="At most so many clips are held in memory while the VAE is trained. The DiT uses all.",
                ),
                io.String.Input(
                    "captions",
                    default="",
                    optional=True,
                    tooltip="Name of a set of captions that Caption Clips has written; it goes before the .txt files.",
                ),
            ],
            outputs=[
                sockets.Clips.Output(display_name="clips", tooltip="For Train VAE and Train DiT."),
                io.String.Output(display_name="report", tooltip="What was found and what was skipped."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,  # so that one can look at the clips before anything is trained
        )

    @classmethod
    def execute(cls, folder: str, size: str, fps: float, max_clips: int, captions: str = "") -> io.NodeOutput:
        """Look at the files and show some of their clips."""
        from ..models.clips.clips import ClipSet
        from ..models.clips.folder import list_clips
        from ..models.geometry import ClipSize
        from .host.processes import training
        from .host.words import captioning

        place, sizes = training.clips_folder(folder), ClipSize.parse_list(size)
        index = training.index_file(place)
        written = captioning.captions_folder(captions) if captions else None
        listing = list_clips(place, sizes, fps=fps, index=index, captions=written, progress=_bar())
        text = listing.text()
        clips = ClipSet(
            sizes=sizes,
            folder=str(place),
            count=max_clips,
            fps=fps,
            index=str(index),
            note=text,
            captions=str(written or ""),
        )
        return io.NodeOutput(clips, text, ui=_sheet(_buckets_of_folder(place, listing.clips), text, listing.problems()))

    @classmethod
    def fingerprint_inputs(cls, folder: str, size: str, fps: float, max_clips: int, captions: str = "") -> str:
        """Look again when a file or a caption has changed."""
        from ..models.clips.entries import folder_mark
        from .host.processes import training
        from .host.words import captioning

        place = training.clips_folder(folder)
        described = [captioning.captions_mark(captions), folder_mark(place)]
        return hashlib.sha256(
            "\n".join([size, str(fps), str(max_clips), *described]).encode(errors="replace")
        ).hexdigest()


class ToyWorld(Node):
    """Rendered clips -> SPACETIME_CLIPS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeToyWorld",
            display_name="Toy World",
            category=CATEGORY,
            description=(
                "Clips of a small rendered world with real mechanics (fall, bounce, collide, roll, orbit, hide) and "
                "captions: what the embedded model was trained on. For first steps without footage of your own."
            ),
            search_aliases=["dataset", "synthetic data", "physics", "training data"],
            inputs=[
                io.String.Input(
                    "size",
                    display_name=SIZE_NAME,
                    default="64x64x17",
                    tooltip=f"{SIZE_TIP} A c at the end makes loops of 4k.",
                ),
                io.Int.Input("count", default=400, **limits("count"), tooltip="How many clips of each size."),
            ],
            outputs=[sockets.Clips.Output(display_name="clips", tooltip="For Train VAE and Train DiT.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,  # so that one can look at the clips before anything is trained
        )

    @classmethod
    def execute(cls, size: str, count: int) -> io.NodeOutput:
        """Render a few clips to show."""
        from ..models.clips.clips import ClipSet
        from ..models.clips.toy import toy_clip
        from ..models.geometry import ClipSize
        from ..models.training.run.contact import Bucket, Shown, share_out

        sizes = ClipSize.parse_list(size)
        buckets = [Bucket(str(one), count) for one in sizes]
        for one, bucket, share in zip(sizes, buckets, share_out([count] * len(sizes), SHOWN), strict=True):
            made = [toy_clip(seed, one) for seed in range(share)]
            bucket.shown += [Shown(frames, captions[0]) for frames, captions in made]
        text = f"{count} clips of {size}, for example: {buckets[0].shown[0].caption}"
        clips = ClipSet(sizes=sizes, count=count, note=text)
        return io.NodeOutput(clips, ui=_sheet(buckets, text))


def _buckets_of_folder(place: Path, clips: Sequence[Any]) -> list[Any]:
    """A few clips of each size, read from their files; one that cannot be read any more is not shown."""
    from ..models.clips.folder import frames_of
    from ..models.training.run.contact import Bucket, Shown, share_out

    groups: dict[str, list[Any]] = {}
    for clip in clips:
        groups.setdefault(str(clip.size), []).append(clip)
    buckets = [Bucket(name, len(group)) for name, group in groups.items()]
    shares = share_out([bucket.count for bucket in buckets], SHOWN)
    for bucket, share in zip(buckets, shares, strict=True):
        for clip in groups[bucket.name][:share]:
            messages.check_interrupted()
            with suppress(ValueError):
                caption = clip.captions[0] if clip.captions else "(its captions are not used)"
                bucket.shown.append(Shown(frames_of(place, clip), caption))
    return buckets


def _bar() -> Any:
    """Progress of unknown length on the node's bar."""
    bar = messages.progress_bar(1)

    def progress(done: int, total: int) -> None:
        messages.check_interrupted()
        bar.update_absolute(done, total)

    return progress


def _sheet(buckets: Sequence[Any], text: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """A contact sheet for the node."""
    from ..models.training.run.contact import contact_sheet
    from .host.processes import training

    return training.picture_ui(contact_sheet(buckets, notes), folders.temp_file(".png"), text)


NODES: list[type[io.ComfyNode]] = [ClipsFromFolder, ToyWorld]
