"""Describe videos: one on its own, or all clips of a folder as captions to train on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..models.text.describing import LENGTHS
from . import sockets
from .host import messages
from .inputs import own_fps_input
from .schema import Node, schema

CATEGORY = "Spacetime/words"
WHICH = ["clips without a caption", "all clips"]  # as models/training/recaption.py has them
MODEL_TIP = (
    "Who describes: Load Captioner, Train Captioner, or Load Language Model with a model that sees pictures. "
    "Without one the embedded captioner, which knows the toy world only."
)


def _model() -> Any:
    return sockets.LanguageModel.Input("language_model", optional=True, tooltip=MODEL_TIP)


def _length() -> Any:
    return io.Combo.Input(
        "length",
        options=list(LENGTHS),
        default="detailed",
        tooltip="detailed: a paragraph in the order that video models are trained on. short: one phrase.",
    )


def _seed() -> Any:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**32 - 1,
        tooltip="For language models, and for captioners when their temperature is above 0.",
    )


class LoadCaptioner(Node):
    """Captioner file and VAE -> SPACETIME_LANGUAGE_MODEL."""

    FILES = frozenset({"captioner"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        from .host.words.captioning import captioner_names

        names = captioner_names()
        return schema(
            node_id="SpacetimeLoadCaptioner",
            display_name="Load Captioner",
            category="Spacetime/loaders",
            description=(
                "A small model of this pack that reads a video VAE's latents and says what they show, for Describe "
                "Video and Caption Clips. The embedded one knows the toy world; Train Captioner makes others."
            ),
            search_aliases=["captioner", "video captioning", "llava", "image to text"],
            inputs=[
                io.Combo.Input(
                    "captioner",
                    options=names,
                    default=names[0],
                    tooltip="The embedded one, or one of Train Captioner, as spacetime/<name>.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE it was trained with, if that is not the embedded one. Another's is refused.",
                ),
            ],
            outputs=[sockets.LanguageModel.Output(display_name="language_model", tooltip="For Describe Video.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, captioner: str, vae: Any = None) -> io.NodeOutput:
        """Read it and say what it is."""
        from .host.words import captioning

        loaded = captioning.load(captioner, vae)
        messages.show_text(cls, f"{loaded.describe()}, {len(loaded.vocabulary)} words and pieces")
        return io.NodeOutput(loaded)

    @classmethod
    def fingerprint_inputs(cls, captioner: str, **_inputs: Any) -> str:
        """Load again when the file has changed (a training run overwrites it)."""
        from .host.words import captioning

        stat = captioning.captioner_path(captioner).stat()
        return f"{captioner}:{stat.st_mtime_ns}:{stat.st_size}"


class DescribeVideo(Node):
    """Frames -> caption."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeDescribeVideo",
            display_name="Describe Video",
            category=CATEGORY,
            description=(
                "Says what a video shows: subjects, actions in time order, background, camera and style as fields, and "
                "all of it as one caption, in the order that video models are trained on. By the embedded captioner "
                "(toy world only), one that you have trained, or any language model that sees pictures."
            ),
            search_aliases=["recaption", "video to text", "caption video", "vlm", "interrogate", "image to text"],
            rarely=["fps", "temperature", "num_frames"],
            inputs=[
                io.MultiType.Input("frames", types=[io.Image, io.Video], tooltip="The images or video to describe."),
                own_fps_input("Frames per second of images; a video brings its own."),
                _length(),
                _seed(),
                io.Float.Input(
                    "temperature",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Captioners only: 0 takes the likeliest words, 1 draws them by the seed.",
                ),
                io.Int.Input(
                    "num_frames",
                    default=8,
                    min=1,
                    max=64,
                    tooltip="Language models only: how many frames they see, evenly spaced, with their times.",
                ),
                _model(),
            ],
            outputs=[
                io.String.Output(display_name="caption", tooltip="One paragraph, for CLIP Text Encode."),
                io.String.Output(display_name="fields", tooltip="Subjects, actions, background, ... as JSON."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        frames: Any,
        fps: float,
        length: str,
        seed: int,
        temperature: float,
        num_frames: int,
        language_model: Any = None,
    ) -> io.NodeOutput:
        """Choose frames, describe them, show the caption."""
        from .host.vae.frames import open_frames
        from .host.words import captioning

        describer = captioning.describer(language_model, length, temperature=temperature, num_frames=num_frames)
        source = open_frames(frames)
        rate = source.fps or fps
        shown, times = captioning.frames_for(describer, source, rate)
        found = describer.look(shown, times, seed=seed)
        messages.show_text(cls, "\n".join([f"{found.paragraph}\n\n(by {describer.name})", *source.remarks()]))
        return io.NodeOutput(found.paragraph, found.as_json())


class CaptionClips(Node):
    """SPACETIME_CLIPS -> SPACETIME_CLIPS with captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeCaptionClips",
            display_name="Caption Clips",
            category="Spacetime/train",
            description=(
                "Describes the clips of a folder, so that a model can be trained on them: re-captioning. The captions "
                "go into output/spacetime/captions/<name>, as .txt and .json with the names of the files, never into "
                "your folder. Stop it at any time; queued again, it continues."
            ),
            search_aliases=["recaption", "auto caption", "label dataset", "sidecar", "caption folder"],
            rarely=["seed"],
            inputs=[
                sockets.Clips.Input("clips", tooltip="From Clips From Folder."),
                io.String.Input(
                    "name", default="my_captions", tooltip="Name of the set of captions: letters, digits, _ and -."
                ),
                io.Combo.Input(
                    "which",
                    options=WHICH,
                    default=WHICH[0],
                    tooltip="Captions beside the files are kept, or all clips are described anew into the set.",
                ),
                _length(),
                io.Int.Input(
                    "limit",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Describe at most so many files, 0 all: a part by a large model, to train a captioner on.",
                ),
                _seed(),
                _model(),
            ],
            outputs=[
                sockets.Clips.Output(display_name="clips", tooltip="The same clips with these captions, for training."),
                io.String.Output(display_name="report", tooltip="What was described, kept, and could not be read."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, clips: Any, name: str, which: str, length: str, limit: int, seed: int, language_model: Any = None
    ) -> io.NodeOutput:
        """Describe file by file."""
        from ..models.training.captioner.recaption import describe_folder
        from .host.words import captioning

        place = captioning.captions_folder(name)
        if not clips.folder:
            raise ValueError("toy-world clips have their captions already: connect Clips From Folder")
        if clips.captions not in ("", str(place)):
            known = Path(clips.captions).name
            raise ValueError(f'these clips use the set of captions "{known}" already: write "{known}" as the name here')
        describer = captioning.describer(language_model, length)
        done = describe_folder(
            Path(clips.folder),
            clips.listing().clips,
            place,
            describer,
            which=which,
            seed=seed,
            limit=limit,
            progress=_progress(cls),
        )
        text = done.text()
        return io.NodeOutput(replace(clips, captions=str(place), note=text), text, ui={"text": (text,)})


def _progress(node: Any) -> Any:
    """Progress in files on the node, and Cancel between two of them."""
    bar = messages.progress_bar(1)

    def progress(done: int, total: int) -> None:
        messages.check_interrupted()
        bar.update_absolute(done, total)
        messages.show_text(node, f"describe file {done + 1} of {total}")

    return progress


NODES: list[type[io.ComfyNode]] = [LoadCaptioner, DescribeVideo, CaptionClips]
