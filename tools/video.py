"""The starter workflow with a person's wishes filled in."""

import argparse
import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.files import write_bytes
from .client import load_workflow
from .comfyui import MEDIA
from .edits import mirror, set_input, title_of
from .environment import ROOT
from .host import Host
from .terminal import Bar, Trouble, in_words, say
from .widgets import choices_of, input_specs, options_of
from .workflow import Prompt

STARTER = ROOT / "workflows" / "text_to_video.json"
PROMPT_TITLE = "Prompt"
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".webp", ".gif")
# wish -> (class of the node, its input)
PLACES = {
    "seconds": ("SpacetimeEmptyVideo", "seconds"),
    "width": ("SpacetimeEmptyVideo", "width"),
    "height": ("SpacetimeEmptyVideo", "height"),
    "seed": ("RandomNoise", "noise_seed"),
    "steps": ("SpacetimeScheduler", "steps"),
    "cfg": ("SpacetimeGuider", "cfg"),
}


@dataclass(frozen=True)
class Wish:
    """What somebody asks of a video; None leaves what the workflow says."""

    prompt: str | None = None
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Wish":
        """The wish that a command line makes."""
        if not options.prompt.strip():
            raise Trouble('The prompt is empty: say what the video should show, for example "a red cube falls".')
        return cls(options.prompt, **{name: getattr(options, name) for name in PLACES})


def add_options(command: argparse.ArgumentParser) -> None:
    """The command line's side of a wish."""
    command.add_argument("--out", type=Path, default=Path("output"), help="file or folder (default: output/)")
    command.add_argument("--seconds", type=float)
    command.add_argument("--width", type=int, help="pixels")
    command.add_argument("--height", type=int, help="pixels")
    command.add_argument("--seed", type=int)
    command.add_argument("--steps", type=int)
    command.add_argument("--cfg", type=float, help="how strongly the prompt leads")
    many = command.add_argument_group("many videos, without ComfyUI")
    many.add_argument("--prompts", type=Path, metavar="FILE", help="a prompt per line")
    many.add_argument("--seeds", type=int, help="videos of each prompt, with the seeds from --seed on")
    many.add_argument("--checkpoint", type=Path, metavar="FILE", help="another model than the one that comes along")
    many.add_argument("--ray", metavar="ADDRESS", help="make them on a Ray cluster; local: on workers of this machine")
    many.add_argument("--workers", type=int, help="at most so many (as many as there is room for)")
    many.add_argument("--threads", type=int, help="CPU threads of each worker (1)")


def batch_arguments(options: argparse.Namespace) -> list[str]:
    """The command that makes many videos."""
    if options.prompt:
        raise Trouble("Give either a prompt or a file of --prompts, not both.")
    arguments = ["models.cluster", "video", "--prompts", str(options.prompts.resolve())]
    arguments += ["--out", str(options.out.resolve())] + (["--address", options.ray] if options.ray else [])
    for name in (*PLACES, "seeds", "checkpoint", "workers", "threads"):
        value = getattr(options, name)
        if value is not None:
            arguments += [f"--{name}", str(value.resolve() if isinstance(value, Path) else value)]
    return arguments


def make(host: Host, wish: Wish, out: Path) -> Path:
    """Run the starter workflow and return the path of the video."""
    workflow = load_workflow(STARTER)
    prompt = host.client.prompt_of(workflow)
    info = host.client.object_info()
    fill_in(prompt, wish, info)
    say(f'Making a video of "{text_of(prompt)}"')
    bar = Bar()
    try:
        result = host.client.run(prompt, bar.show, workflow=mirror(workflow, prompt, info))
    finally:
        bar.clear()
    videos = [file for file in result.files() if file["filename"].lower().endswith(VIDEO_SUFFIXES)]
    saved = [file for file in videos if file.get("type") == "output"] or videos
    if not saved:
        raise Trouble(f"{STARTER.name} ran but saved no video: it needs a Save Video node.")
    path = keep(host, saved[-1], out)
    say(f"Video: {path}  ({result.seconds:.0f} s)")
    return path


def fill_in(prompt: Prompt, wish: Wish, info: dict[str, Any]) -> None:
    """Write a wish into the prompt's nodes."""
    if wish.prompt is not None:
        set_input(prompt, prompt_node(prompt), "text", wish.prompt, info)
    for name, (class_type, field) in PLACES.items():
        value = getattr(wish, name)
        if value is not None:
            set_input(prompt, only(prompt, class_type), field, value, info)


def prompt_node(prompt: Prompt) -> str:
    """The text node that holds the prompt (there may be another for the negative one)."""
    texts = [key for key, node in prompt.items() if node["class_type"] == "CLIPTextEncode"]
    titled = [key for key in texts if title_of(prompt[key]) == PROMPT_TITLE]
    if not texts:
        raise Trouble(f"{STARTER.name} has no CLIP Text Encode node to write the prompt into.")
    return (titled or texts)[0]


def text_of(prompt: Prompt) -> str:
    """The prompt that will be used."""
    return str(prompt[prompt_node(prompt)]["inputs"].get("text", ""))


def only(prompt: Prompt, class_type: str) -> str:
    """The node of a class."""
    for key, node in prompt.items():
        if node["class_type"] == class_type:
            return key
    raise Trouble(f"{STARTER.name} has no {class_type} node any more.")


def keep(host: Host, file: dict[str, str], out: Path | None) -> Path:
    """Copy a made file to `out` (a folder, or a file name with a suffix); without `out` say where the host keeps it."""
    if out is None:
        out = ROOT / "output"
    is_file = bool(out.suffix) and not out.is_dir()
    target = out if is_file else out / file["filename"]
    if target.suffix.lower() != Path(file["filename"]).suffix.lower():
        raise Trouble(f"{out} cannot be written: what was made is {file['filename']}. Give --out that suffix.")
    made = host.client.fetch(file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not is_file:
            target = unused(target)
        write_bytes(target, made)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise Trouble(f"{in_words(error).removesuffix('.')}; or choose another place with --out.") from None
    return target.resolve()


def unused(path: Path) -> Path:
    """The path itself, or one with a number, so that nothing that exists is overwritten."""
    candidates = (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(2, 100_000))
    return path if not path.exists() else next(one for one in candidates if not one.exists())


def upload_files(host: Host, prompt: Prompt) -> None:
    """Send files that the prompt's loader nodes name to the host: local ones, and the clips that come with the pack."""
    info = host.client.object_info()
    for node in prompt.values():
        for name, spec in input_specs(info.get(node["class_type"], {"input": {}})).items():
            value = node["inputs"].get(name)
            takes_file = any(key.endswith("_upload") and on for key, on in options_of(spec).items())
            if not takes_file or not isinstance(value, str):
                continue
            if Path(value).is_file():
                node["inputs"][name] = host.client.upload(Path(value))
            elif value not in choices_of(spec) and (MEDIA / value).is_file():
                node["inputs"][name] = host.client.upload(MEDIA / value)
