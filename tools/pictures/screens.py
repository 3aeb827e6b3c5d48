"""Every workflow as the editor opens it, dark and light, and the page of the docs that shows them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...models.files import write_text
from ..client import load_workflow
from ..environment import ROOT
from ..host import Host
from ..terminal import say
from ..workflow import needed_release
from .editor import Editor, open_browser, visit
from .sheets import save_webp
from .shots import PLAIN, THEMES, set_theme, shot

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORKFLOWS = ROOT / "workflows"
FOLDER = ROOT / "web" / "docs" / "images" / "workflows"
PAGE = ROOT / "web" / "docs" / "guides" / "workflows.md"
SIZE = (1440, 900)
LARGEST = 26_000  # bytes of a picture: all together stay below 3 MB
QUIET = (
    *PLAIN,
    "Comfy.Graph.CanvasMenu",
    "Comfy.Workflow.ShowMissingModelsWarning",
    "Comfy.Workflow.ShowMissingNodesWarning",
)
FULL = """() => {
  app.canvas.low_quality_zoom_threshold = 0
  app.canvas.min_font_size_for_lod = 0
  app.extensionManager.setting.set('LiteGraph.Canvas.LowQualityRenderingZoomThreshold', 0.1)
  app.extensionManager.setting.set('LiteGraph.Canvas.MinFontSizeForLOD', 0)
}"""
# the whole graph in view, no larger than it is; where it lies on the screen
FIT = """() => {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity]
  for (const one of [...app.graph.nodes, ...app.graph.groups]) {
    const [x, y, width, height] = one.getBounding ? one.getBounding(new Float32Array(4)) : [...one.pos, ...one.size]
    left = Math.min(left, x); top = Math.min(top, y)
    right = Math.max(right, x + width); bottom = Math.max(bottom, y + height)
  }
  const view = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect(), edge = 24
  view.scale = Math.min(1, (box.width - 2 * edge) / (right - left), (box.height - 2 * edge) / (bottom - top))
  view.offset = [edge / view.scale - left, edge / view.scale - top]
  app.canvas.deselectAll()
  app.canvas.setDirty(true, true)
  const [width, height] = [right - left, bottom - top].map((length) => length * view.scale + 2 * edge)
  return {x: box.x, y: box.y, width, height}
}"""
HEAD = """# Every workflow, as the editor opens it

In the editor: Templates, then *spacetime* under Extensions. The pictures and this page are made by
`run.py pictures workflows`, the words are the first of each workflow's own note. What a run of it makes is shown by its
thumbnail among the templates.
"""


def workflows(host: Host, names: Sequence[str] = ()) -> None:
    """Photograph all workflows that this ComfyUI can open, or those that are named, and write the page."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = open_browser(playwright, host.url, Path(profile), size=SIZE)
        try:
            view = Editor(context.pages[0], host.url, vue=False)
            visit(view.page, view.url)
            show_nothing_but_the_graph(view.page)
            for path in chosen(names):
                workflow = load_workflow(path)
                if lacking := host.client.lacking(workflow):
                    say(f"{path.stem} is left out. {lacking}")
                else:
                    photograph(view, path.stem, workflow)
        finally:
            context.close()
    write_text(PAGE, page_of_all())


def show_nothing_but_the_graph(page: Page) -> None:
    """No bars, no dialogs about what is missing, and all texts however small they are."""
    for name in QUIET:
        page.evaluate("(name) => app.extensionManager.setting.set(name, false)", name)
    page.evaluate("app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    page.add_style_tag(content=".comfy-menu-hamburger { display: none !important }")  # the way back from there
    page.evaluate(FULL)


def chosen(names: Sequence[str] = ()) -> list[Path]:
    """The files of these workflows, of all when none is named."""
    return [path for path in sorted(WORKFLOWS.glob("*.json")) if not names or path.stem in names]


def photograph(view: Editor, name: str, workflow: dict[str, Any]) -> None:
    """One workflow in both themes."""
    view.load(workflow)
    for theme in THEMES:
        set_theme(view.page, theme)
        picture = settled(view.page)
        save_webp(picture, FOLDER / f"{name}-{theme}.webp", LARGEST)
    say(f"web/docs/images/workflows/{name}-dark.webp, {name}-light.webp")


def settled(page: Page) -> Image.Image:
    """The graph, once it no longer changes: previews and curves come a moment later; what moves is taken as it is."""
    picture = shot(page, page.evaluate(FIT))
    for _ in range(8):
        page.wait_for_timeout(250)
        before, picture = picture, shot(page, page.evaluate(FIT))
        if before == picture:
            break
    return picture


def page_of_all() -> str:
    """The page of the docs: of each workflow the head of its note, and its pictures."""
    return "\n".join([HEAD, *(part(path.stem, load_workflow(path)) for path in chosen())])


def part(name: str, workflow: dict[str, Any]) -> str:
    """What the page says of one workflow."""
    title, words = said(workflow)
    pictures = " ".join(f"![{name}, {theme}](../images/workflows/{name}-{theme}.webp)" for theme in THEMES)
    needed = needed_release(workflow)
    if needed and not all((FOLDER / f"{name}-{theme}.webp").exists() for theme in THEMES):
        pictures = f"It needs ComfyUI {needed} or newer, and is not shown here."
    return f"## {name}: {title}\n\n{words}\n\n{pictures}\n"


def said(workflow: dict[str, Any]) -> tuple[str, str]:
    """The title of a workflow's note, and its first paragraph."""
    note = next(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    title, words, *_ = note.split("\n\n")
    return title.removeprefix("## "), words
