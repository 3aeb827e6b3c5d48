"""Make the repository's pictures anew: `run.py pictures [KIND]`, with the kinds of `--help`.

The icon is drawn; the others show what the real host makes.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from .. import comfyui
from ..client import Result, load_workflow
from ..comfyui import MEDIA
from ..environment import ROOT
from ..host import Host
from ..terminal import Trouble, say
from ..video import STARTER, Wish, fill_in, upload_files
from . import icon
from .diagram import diagram
from .editor import Editor, open_browser, visit
from .guides import DRAWN, IMAGES, MADE, draw, make, saved_video
from .screens import FULL, workflows
from .sheets import captioned, grid, pick, save_jpeg, save_moving, video_frames
from .widgets import widgets

BROUGHT = {"UNETLoader", "CheckpointLoaderSimple", "SpacetimeLoadDiT"}  # they load what does not come with the pack
TRAINING = ("SpacetimeTrain", "SpacetimeDistill")
WIDTH = 480
# prompts of the README's sample videos, each with seed 0: none was chosen for its looks
SAMPLES = (
    ("an orange ball rolls behind a gray wall and comes out at sunset", 0),
    ("a yellow cylinder slides to the left on a sandy checkered floor", 0),
    ("a purple cube is spinning at sunset", 0),
    ("a blue ball orbits a yellow cone in daylight", 0),
    ("a red ball bounces to the right on a gray floor", 0),
)


def main() -> int:
    """Make the pictures that were asked for."""
    parser = argparse.ArgumentParser(prog="run.py pictures")
    parser.add_argument("kind", nargs="?", choices=["icon", *KINDS], help="all of them when left out")
    parser.add_argument("names", nargs="*", help="thumbnails, or pictures, of these workflows only")
    parser.add_argument("--comfyui", metavar="PATH", help="use this ComfyUI")
    options = parser.parse_args()
    try:
        if options.kind in (None, "icon"):
            icon.draw()
        if options.kind == "icon":
            return 0
        with Host.start(comfyui.find(options.comfyui) if options.comfyui else comfyui.managed(dev=True)) as host:
            host.check_pack()
            for kind in [options.kind] if options.kind else KINDS:
                KINDS[kind](host, options.names)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


def thumbnails(host: Host, names: Sequence[str] = ()) -> None:
    """One picture per workflow, of what a run of it makes; training takes hours and is left out unless named.

    Workflows for models that people have to bring are drawn instead.
    """
    for path in sorted((ROOT / "workflows").glob("*.json")):
        workflow = load_workflow(path)
        if any(node["type"] in BROUGHT for node in workflow["nodes"]):
            if not names or path.stem in names:
                save_jpeg(diagram(workflow, WIDTH), path.with_suffix(".jpg"))
            continue
        if path.stem not in names and host.client.lacking(workflow):  # needs a newer ComfyUI
            continue
        prompt = host.client.prompt_of(workflow)
        trains = any(node["class_type"].startswith(TRAINING) for node in prompt.values())
        if path.stem not in names if names else trains:
            continue
        upload_files(host, prompt)
        picture = THUMBNAILS.get(path.stem, film)(host, host.client.run(prompt))
        save_jpeg(picture, path.with_suffix(".jpg"))
        say(str(path.with_suffix(".jpg").relative_to(ROOT)))


def guides(host: Host, names: Sequence[str] = ()) -> None:
    """Workflows drawn for the guides, and what some of them make."""
    for name in filter(lambda one: not names or one in names, (*DRAWN, *MADE)):
        say(f"web/docs/images/{draw(name) if name in DRAWN else make(host, name)}")


def samples(host: Host, _names: Sequence[str] = ()) -> None:
    """A strip of frames per prompt, and the same videos moving side by side."""
    rows, videos = [], []
    for text, seed in SAMPLES:
        prompt = host.client.prompt_of(load_workflow(STARTER))
        fill_in(prompt, Wish(prompt=text, seed=seed), host.client.object_info())
        frames = saved_video(host, host.client.run(prompt))
        videos.append(frames)
        rows.append((text, grid(pick(frames, 8), 8, 1000)))
    save_jpeg(captioned(rows), IMAGES / "samples.jpg", 200_000)
    save_moving([grid(moment, len(videos), 960) for moment in zip(*videos, strict=True)], IMAGES / "samples.webp")
    say("web/docs/images/samples.jpg, samples.webp")


def editor(host: Host, _names: Sequence[str] = ()) -> None:
    """The starter workflow in the editor, after a run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = open_browser(playwright, host.url, Path(profile), size=(2000, 1060))
        try:
            photograph(Editor(context.pages[0], host.url, vue=False))
        finally:
            context.close()
    say("web/docs/images/editor.png")


def photograph(view: Editor) -> None:
    """Load the starter, run it, and save what is on the screen."""
    page = view.page
    visit(page, view.url)
    for name in ("Comfy.VueNodes.Enabled", "Comfy.Minimap.Visible", "Comfy.Graph.CanvasInfo"):
        page.evaluate("(name) => app.extensionManager.setting.set(name, false)", name)
    page.evaluate(FULL)
    view.open_template(comfyui.LINK_NAME, STARTER.stem)
    view.press_run(600)
    page.wait_for_function("() => [...document.querySelectorAll('video')].some((one) => one.readyState >= 2)")
    page.evaluate(
        """async () => {
          for (const video of document.querySelectorAll('video')) {
            video.pause(); video.controls = false; video.currentTime = video.duration * 0.8
          }
          // the whole graph, as large as the space beside the side bar allows
          let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity]
          for (const {pos, size} of [...app.graph.nodes, ...app.graph.groups]) {
            left = Math.min(left, pos[0]); top = Math.min(top, pos[1])
            right = Math.max(right, pos[0] + size[0]); bottom = Math.max(bottom, pos[1] + size[1])
          }
          const [bar, head, margin] = [70, 140, 20], view = app.canvas.ds
          const [wide, high] = [innerWidth - bar - margin, innerHeight - head - margin]
          view.scale = Math.min(wide / (right - left), high / (bottom - top))
          view.offset = [
            (bar + (wide - view.scale * (right - left)) / 2) / view.scale - left,
            (head - 35 + (high - view.scale * (bottom - top)) / 2) / view.scale - top]
          app.canvas.setDirty(true, true)
        }"""
    )
    page.wait_for_timeout(8000)  # the message that the job is done goes away by itself
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(IMAGES / "editor.png", optimize=True)


def film(host: Host, result: Result) -> Image.Image:
    """Six moments of the video that was saved, or what is previewed where none was."""
    files = list(result.files())
    if any(file["type"] == "output" for file in files):
        frames = pick(saved_video(host, result), 6)
        return grid(frames, 2 if frames[0].width > 1.9 * frames[0].height else 3, WIDTH)
    return grid([Image.open(io.BytesIO(host.client.fetch(file))) for file in files], 1, WIDTH)


def pairs(host: Host, result: Result) -> Image.Image:
    """Six moments of a video that shows two clips side by side."""
    return grid(pick(saved_video(host, result), 6), 2, WIDTH)


def still(host: Host, result: Result) -> Image.Image:
    """The image itself."""
    (file,) = result.files()
    return grid([Image.open(io.BytesIO(host.client.fetch(file)))], 1, 320)


def before_and_after(host: Host, result: Result) -> Image.Image:
    """Three moments of the clip that went in, and below them the same of the one that came out."""
    clip = video_frames(MEDIA / "big_buck_bunny.mp4")
    return grid(pick(clip, 3) + pick(saved_video(host, result), 3), 3, 600)


def guesses(host: Host, result: Result) -> Image.Image:
    """A column per stage: the guess after it, at two moments."""
    shown = [output.get("images") for _, output in sorted(result.outputs.items(), key=lambda item: int(item[0]))]
    previews = [files for files in shown if files and files[0]["type"] == "temp"]
    moments = [[Image.open(io.BytesIO(host.client.fetch(file))) for file in files] for files in previews]
    return grid([pick(stage, 4)[i] for i in (0, 3) for stage in moments], len(moments), WIDTH)


def run_of_a_captioner(host: Host, result: Result) -> Image.Image:
    """The curve of a captioner's training, and clips with what it says of them."""
    (file,) = [one for one in result.files() if "captioner" in one["subfolder"]]
    return grid([Image.open(io.BytesIO(host.client.fetch(file)))], 1, 520)


THUMBNAILS: dict[str, Callable[[Host, Result], Image.Image]] = {
    "text_to_image": still,
    "vae_roundtrip": before_and_after,
    "step_by_step": guesses,
    "recaption_folder": run_of_a_captioner,
    "train_vae": pairs,
}
KINDS: dict[str, Callable[[Host, Sequence[str]], None]] = {
    "thumbnails": thumbnails,
    "samples": samples,
    "guides": guides,
    "editor": editor,
    "widgets": widgets,
    "workflows": workflows,
}


if __name__ == "__main__":
    sys.exit(main())
