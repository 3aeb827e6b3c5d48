"""Pictures of what the pack draws in the editor, dark and light; recordings of the view of patches and of a swap."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from .. import comfyui
from ..host import Host
from ..terminal import say
from .editor import Editor, open_browser, visit
from .sheets import save_moving
from .shots import FOLDER, LOOK_AT, PLAIN, in_themes, of_element, of_node
from .swapping import record_swap

if TYPE_CHECKING:
    from playwright.sync_api import Page

LARGEST_RECORDING = 680_000  # bytes
NEEDS = """async () => {
  const workflow = await (await fetch('/api/workflow_templates/spacetime/text_to_video.json')).json()
  const weights = [
    {name: 'my-motion-lora.safetensors', folder: 'loras', size: 38_000_000, sha256: '00', from: 'https://example.org/lora'}]
  workflow.extra = {...workflow.extra, spacetime: {version: '99.0.0', weights}}
  await app.loadGraphData(workflow)
  if (app.extensionManager.sidebarTab.activeSidebarTabId !== 'spacetime-needs')
    await app.extensionManager.command.execute('Spacetime.Needs')
}"""
SELECT = """(type) => {
  app.canvas.deselectAll()
  app.canvas.selectNode(app.graph.nodes.find((one) => one.type === type))
}"""


def widgets(host: Host, names: Sequence[str] = ()) -> None:
    """Widgets of ours in both themes, and the recordings; or those of the scenes that are named."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = open_browser(playwright, host.url, Path(profile), size=(1280, 860))
        try:
            view = Editor(context.pages[0], host.url, vue=False)
            visit(view.page, view.url)
            for name in PLAIN:
                view.page.evaluate("(name) => app.extensionManager.setting.set(name, false)", name)
            for name, make in SCENES.items():
                if not names or name in names:
                    make(view)
        finally:
            context.close()


# -- what is photographed --


def run_step_by_step(view: Editor) -> None:
    """The curve, a run on its way, and the patches in three views, of one run."""
    view.open_template(comfyui.LINK_NAME, "step_by_step")
    view.page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'SpacetimeInspectTokens')")
    view.press_run(900)
    view.page.wait_for_function("() => document.querySelector('.spacetime-strip')?.dataset.step")
    in_themes(view.page, "scheduler", lambda: of_node(view.page, "SpacetimeScheduler"))
    in_themes(view.page, "strip", lambda: of_node(view.page, "SpacetimeDenoiseStep"))
    open_patches(view.page)
    for kind in ("components", "levels", "attention"):
        view.page.get_by_label("What is shown").select_option(kind)
        if kind == "attention":
            ask_for(view.page, 0.4, 0.55)
        in_themes(view.page, f"patches-{kind}", lambda: of_element(view.page, ".spacetime-patches"))
    record_patches(view.page)


def run_explore_seeds(view: Editor) -> None:
    """The sheet with two picked."""
    view.open_template(comfyui.LINK_NAME, "explore_seeds")
    view.page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'SpacetimePickRuns')")
    view.press_run(900)
    view.page.evaluate(LOOK_AT, "SpacetimePickRuns")
    for number in (1, 3):
        button = view.page.locator(".spacetime-picks").get_by_role("button", name=f"Run {number},")
        if button.get_attribute("aria-pressed") != "true":
            button.click()
    in_themes(view.page, "picks", lambda: of_node(view.page, "SpacetimePickRuns"))


def run_vae_roundtrip(view: Editor) -> None:
    """Two videos in step."""
    view.open_template(comfyui.LINK_NAME, "vae_roundtrip")
    view.page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'SpacetimeCompareVideos')")
    view.press_run(900)
    view.page.evaluate(LOOK_AT, "SpacetimeCompareVideos")
    view.page.wait_for_function("() => document.querySelector('.spacetime-compare video')?.readyState >= 2")
    in_themes(view.page, "compare", lambda: of_node(view.page, "SpacetimeCompareVideos"))


def swap_a_scheduler(view: Editor) -> None:
    """A swap as it happens, and the list of all nodes that fit."""
    view.open_template(comfyui.LINK_NAME, "text_to_video")
    view.page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'SpacetimeScheduler')")
    record_swap(view.page)
    view.page.evaluate(SELECT, "SpacetimeScheduler")
    view.page.keyboard.press("Control+Alt+w")  # the command itself ends when the list is closed: not to be waited for
    dialog = view.page.locator(".spacetime-chooser")
    dialog.wait_for()
    in_themes(view.page, "swap", lambda: of_element(view.page, ".spacetime-chooser"))
    view.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def open_needs(view: Editor) -> None:
    """What a workflow of somebody else lacks here."""
    view.page.evaluate(NEEDS)
    view.page.locator(".spacetime-needs[data-found]").wait_for()
    in_themes(view.page, "needs", lambda: of_element(view.page, ".spacetime-needs"))


SCENES: dict[str, Callable[[Editor], None]] = {
    "step_by_step": run_step_by_step,
    "explore_seeds": run_explore_seeds,
    "vae_roundtrip": run_vae_roundtrip,
    "swap": swap_a_scheduler,
    "needs": open_needs,
}


# -- how --


def open_patches(page: Page) -> None:
    """The view of Inspect Tokens, with its pictures there."""
    page.evaluate(SELECT, "SpacetimeInspectTokens")
    page.evaluate("app.extensionManager.command.execute('Spacetime.Patches')")
    page.locator(".spacetime-patches[data-pictures]").wait_for()


def ask_for(page: Page, across: float, down: float) -> None:
    """Click a patch, at a place of the square in the middle of the drawing, and wait for what it attends to."""
    canvas = page.locator(".spacetime-patches canvas.grid")
    box = canvas.bounding_box()
    assert box is not None
    side = min(box["width"], box["height"])
    left, top = (box["width"] - side) / 2, (box["height"] - side) / 2
    canvas.evaluate("(one) => delete one.dataset.asked")
    canvas.click(position={"x": left + across * side, "y": top + down * side})
    page.locator(".spacetime-patches canvas[data-asked]").wait_for()


def record_patches(page: Page) -> None:
    """A patch is clicked in several blocks, and time goes by."""
    frames: list[Image.Image] = []

    def take(count: int = 1) -> None:
        frames.extend([of_element(page, ".spacetime-patches").resize((430, 600))] * count)

    view, time = page.get_by_label("What is shown"), page.get_by_label("Latent frame", exact=True)
    last = int(time.get_attribute("max") or 0)
    for kind in ("components", "attention"):
        view.select_option(kind)
        for frame in range(last + 1):
            time.evaluate("(one, at) => { one.value = at; one.dispatchEvent(new Event('input')) }", frame)
            take(2)
    for across, down in ((0.3, 0.5), (0.5, 0.6), (0.6, 0.4)):
        ask_for(page, across, down)
        take(5)
    for block in (1, 2, 3):
        page.locator(".spacetime-patches canvas.grid").evaluate("(one) => delete one.dataset.asked")
        page.get_by_label("Block").select_option(index=block)
        page.locator(".spacetime-patches canvas[data-asked]").wait_for()
        take(4)
    save_moving(frames, FOLDER / "patches.webp", LARGEST_RECORDING)
    say("web/docs/images/widgets/patches.webp")
    page.keyboard.press("Escape")
