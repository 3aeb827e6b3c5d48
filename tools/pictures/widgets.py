"""Pictures of what the pack draws in the editor, dark and light; a recording of the view of patches."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ...models.files import write_bytes
from .. import comfyui
from ..environment import ROOT
from ..host import Host
from ..terminal import say
from .editor import Editor, open_browser, visit
from .sheets import save_moving

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = ROOT / "web" / "docs" / "images" / "widgets"
THEMES = ("dark", "light")
QUALITY = 82
LARGEST_RECORDING = 680_000  # bytes
PLAIN = ("Comfy.VueNodes.Enabled", "Comfy.Minimap.Visible", "Comfy.Graph.CanvasInfo")
LOOK_AT = """(type) => {
  const node = app.graph.nodes.find((one) => one.type === type), view = app.canvas.ds
  app.canvas.deselectAll()
  view.scale = 1.25
  view.offset = [560 / view.scale - node.pos[0], 200 / view.scale - node.pos[1]]
  app.canvas.setDirty(true, true)
}"""
BOX = """(type) => {
  const {pos, size} = app.graph.nodes.find((one) => one.type === type), {scale, offset} = app.canvas.ds
  return {x: (pos[0] + offset[0]) * scale - 12, y: (pos[1] + offset[1] - 30) * scale - 12,
          width: size[0] * scale + 24, height: (size[1] + 30) * scale + 24}
}"""
SELECT = """(type) => {
  app.canvas.deselectAll()
  app.canvas.selectNode(app.graph.nodes.find((one) => one.type === type))
}"""


def widgets(host: Host, names: Sequence[str] = ()) -> None:
    """Widgets of ours in both themes, and the recording; or those of the scenes that are named."""
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


SCENES: dict[str, Callable[[Editor], None]] = {
    "step_by_step": run_step_by_step,
    "explore_seeds": run_explore_seeds,
}


# -- how --


def in_themes(page: Page, name: str, take: Callable[[], Image.Image]) -> None:
    """One picture for each theme."""
    for theme in THEMES:
        page.evaluate("(theme) => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
        page.wait_for_timeout(400)  # colours of the canvas follow in their own time
        data = io.BytesIO()
        take().save(data, "WEBP", quality=QUALITY, method=6)
        write_bytes(FOLDER / f"{name}-{theme}.webp", data.getvalue())
        say(f"web/docs/images/widgets/{name}-{theme}.webp")
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")


def of_node(page: Page, kind: str) -> Image.Image:
    """A node and what hangs on it."""
    page.evaluate(LOOK_AT, kind)
    page.wait_for_timeout(300)
    return shot(page, page.evaluate(BOX, kind))


def of_element(page: Page, selector: str) -> Image.Image:
    """An element of the page."""
    return Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")


def shot(page: Page, clip: dict[str, float] | None = None) -> Image.Image:
    """What is on the screen, or a part of it."""
    return Image.open(io.BytesIO(page.screenshot(clip=clip) if clip else page.screenshot())).convert("RGB")


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
