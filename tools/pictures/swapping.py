"""A recording of a swap by the mouse: the menu of a node, the nodes that fit, another one in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from ..terminal import say
from .sheets import save_moving
from .shots import FOLDER, LOOK_AT, shot

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LARGEST = 480_000  # bytes
PART = {"x": 380, "y": 96, "width": 890, "height": 696}  # of the screen: the canvas, and where messages appear
SIZE = (690, 540)
POINTER = ((0, 0), (0, 15), (4, 12), (7, 18), (10, 17), (7, 11), (12, 11))
MENU = ".litecontextmenu .litemenu-entry"
TITLE = """(type) => {
  const {pos} = app.graph.nodes.find((one) => one.type === type), {scale, offset} = app.canvas.ds
  const box = app.canvas.canvas.getBoundingClientRect()
  return [box.x + (pos[0] + 90 + offset[0]) * scale, box.y + (pos[1] - 15 + offset[1]) * scale]
}"""
IS_THERE = "(type) => app.graph.nodes.some((one) => one.type === type)"


class Recording:
    """Frames of the screen with the pointer in them, which a picture of the screen lacks."""

    def __init__(self, page: Page) -> None:
        self.page, self.at = page, (PART["x"] + PART["width"] * 0.8, PART["y"] + PART["height"] * 0.85)
        self.frames: list[Image.Image] = []

    def stay(self, count: int) -> None:
        """What is on the screen, for so many frames."""
        self.frames.extend([self.frame(shot(self.page, PART))] * count)

    def move(self, to: tuple[float, float], count: int = 6) -> None:
        """The pointer goes to a place of the screen."""
        start = self.at
        for step in range(1, count + 1):
            self.at = tuple(a + (b - a) * step / count for a, b in zip(start, to, strict=True))  # type: ignore[assignment]
            self.page.mouse.move(*self.at)
            self.stay(1)

    def move_to(self, target: Locator) -> None:
        """The pointer goes onto an element."""
        box = target.bounding_box()
        assert box is not None
        self.move((box["x"] + min(70, box["width"] / 2), box["y"] + box["height"] / 2))

    def frame(self, picture: Image.Image) -> Image.Image:
        """A picture of the part, smaller, with the pointer drawn in."""
        small = picture.resize(SIZE, Image.Resampling.LANCZOS)
        x, y = ((self.at[i] - PART[side]) * SIZE[0] / PART["width"] for i, side in enumerate("xy"))
        ImageDraw.Draw(small).polygon([(x + dx, y + dy) for dx, dy in POINTER], fill="white", outline="black")
        return small


def record_swap(page: Page, old: str = "SpacetimeScheduler", new: str = "BasicScheduler") -> None:
    """A node of the open workflow gives its place to another one by its menu, and gets it back by an undo."""
    page.evaluate(LOOK_AT, old)
    page.wait_for_timeout(400)
    recording = Recording(page)
    recording.stay(8)
    recording.move(tuple(page.evaluate(TITLE, old)))
    page.mouse.click(*recording.at, button="right")
    entry = page.locator(MENU, has_text="Swap for…").last
    entry.wait_for()
    recording.stay(8)
    recording.move_to(entry)
    entry.click()
    choice = page.locator(MENU, has_text=new).last
    choice.wait_for()
    recording.stay(10)
    recording.move_to(choice)
    recording.stay(4)
    choice.click()
    page.wait_for_function(IS_THERE, arg=new)
    page.wait_for_timeout(300)  # the canvas draws it in its own time
    recording.stay(18)
    page.evaluate("app.extensionManager.command.execute('Comfy.Undo')")
    page.wait_for_function(IS_THERE, arg=old)
    page.wait_for_timeout(300)
    recording.stay(10)
    save_moving(recording.frames, FOLDER / "swap.webp", LARGEST)
    say("web/docs/images/widgets/swap.webp")
