"""Pictures of the editor's screen: of a node, of an element, in each theme."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image

from ...models.files import write_bytes
from ..environment import ROOT
from ..terminal import say

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = ROOT / "web" / "docs" / "images" / "widgets"
THEMES = ("dark", "light")
QUALITY = 82
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


def in_themes(page: Page, name: str, take: Callable[[], Image.Image]) -> None:
    """One picture for each theme."""
    for theme in THEMES:
        set_theme(page, theme)
        data = io.BytesIO()
        take().save(data, "WEBP", quality=QUALITY, method=6)
        write_bytes(FOLDER / f"{name}-{theme}.webp", data.getvalue())
        say(f"web/docs/images/widgets/{name}-{theme}.webp")
    set_theme(page, THEMES[0])


def set_theme(page: Page, theme: str) -> None:
    """Draw the editor in a theme."""
    page.evaluate("(theme) => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
    page.wait_for_timeout(400)  # colours of the canvas follow in their own time


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
