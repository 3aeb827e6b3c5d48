"""Pictures of the guide about runs: workflows drawn, and what the real host makes of them as they ship."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ...models.files import write_bytes
from ..client import Result, load_workflow
from ..comfyui import MEDIA
from ..environment import ROOT
from ..host import Host
from ..video import upload_files
from .diagram import diagram
from .sheets import captioned, grid, pick, save_jpeg, video_frames

IMAGES = ROOT / "web" / "docs" / "images"
WORKFLOWS = ROOT / "workflows"
WIDTH = 960
COLUMNS = 8
LARGEST = 200_000
DRAWN = ("save_and_resume",)
Prompt = dict[str, Any]


def saved_video(host: Host, result: Result) -> list[Image.Image]:
    """The frames of the video that a run saved."""
    file = [one for one in result.files() if one["type"] == "output"][-1]
    path = Path(tempfile.mkdtemp(prefix="spacetime-")) / "video.mp4"
    write_bytes(path, host.client.fetch(file))
    return video_frames(path)


def strip(frames: list[Image.Image]) -> Image.Image:
    """A video as a row of moments."""
    return grid(pick(frames, COLUMNS), COLUMNS, WIDTH)


def of_class(prompt: Prompt, kind: str) -> str:
    """The id of the one node of a class."""
    (found,) = [key for key, node in prompt.items() if node["class_type"] == kind]
    return found


def contact_sheet(host: Host, prompt: Prompt) -> tuple[str, bytes]:
    """What Explore Seeds shows on the node, as it moves."""
    explorer = of_class(prompt, "SpacetimeExploreSeeds")
    (file,) = host.client.run(prompt).outputs[explorer]["images"]
    return "explored_seeds.webp", host.client.fetch(file)


def prompts(host: Host, prompt: Prompt) -> Image.Image:
    """The video, under the lines that were written."""
    lines = prompt[of_class(prompt, "SpacetimePromptOverTime")]["inputs"]["prompts"].splitlines()
    return captioned([(", then ".join(lines), strip(saved_video(host, host.client.run(prompt))))])


def retaken(host: Host, prompt: Prompt) -> Image.Image:
    """The clip and its retake."""
    name = prompt[of_class(prompt, "LoadVideo")]["inputs"]["file"]
    stretch = prompt[of_class(prompt, "SpacetimeRetake")]["inputs"]
    clip = video_frames(MEDIA / name)
    made = saved_video(host, host.client.run(prompt))
    middle = f"{stretch['start']:g} to {stretch['end']:g} s made anew, the rest kept"
    return captioned([("the clip", strip(clip)), (middle, strip(made))])


def finer(host: Host, prompt: Prompt) -> Image.Image:
    """Moments of the first pass, made larger as pictures, and of the second one."""
    second = of_class(prompt, "SpacetimeSecondPass")
    decoder = of_class(prompt, "SpacetimeVAEDecode")
    scale = prompt[second]["inputs"]["scale"]
    first = {key: {**node, "inputs": dict(node["inputs"])} for key, node in prompt.items()}
    first[decoder]["inputs"] |= {"latent": prompt[second]["inputs"]["latent"], "fps": 12.0}
    rows = []
    for text, one in (
        ("first pass, its picture enlarged", first),
        (f"second pass at {scale:g} times the sides", prompt),
    ):
        frames = saved_video(host, host.client.run(one))
        rows.append((text, grid(pick(frames, 4), 4, WIDTH)))
    return captioned(rows)


MADE: dict[str, Callable[[Host, Prompt], Image.Image | tuple[str, bytes]]] = {
    "explore_seeds": contact_sheet,
    "prompt_over_time": prompts,
    "retake": retaken,
    "second_pass": finer,
}


def draw(name: str) -> str:
    """A workflow drawn; the picture's name."""
    workflow = load_workflow(WORKFLOWS / f"{name}.json")
    save_jpeg(diagram(workflow, WIDTH), IMAGES / f"{name}.jpg", LARGEST)
    return f"{name}.jpg"


def make(host: Host, name: str) -> str:
    """What a workflow makes, as a picture; its name."""
    prompt = host.client.prompt_of(load_workflow(WORKFLOWS / f"{name}.json"))
    upload_files(host, prompt)
    made = MADE[name](host, prompt)
    if isinstance(made, tuple):
        write_bytes(IMAGES / made[0], made[1])
        return made[0]
    save_jpeg(made, IMAGES / f"{name}.jpg", LARGEST)
    return f"{name}.jpg"
