"""The pack's icon and banner: a video as a stack of frames cut into patches, each with its own share of noise."""

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

from ..environment import ROOT
from ..terminal import say

SMOOTH = 3  # drawn larger and scaled down, for smooth lines
FRAMES, PATCHES = 4, 5  # frames of the stack, patches along each side of a frame
SKY, GROUND, BALL = (46, 74, 132), (214, 178, 120), (238, 92, 66)
BACKGROUND, INK = (20, 22, 30), (232, 234, 240)
Point = tuple[float, float]


def draw(folder: Path = ROOT / "web" / "docs" / "images") -> None:
    """Write icon.png (400 x 400) and banner.png (21 : 9), the same at each call."""
    for name, picture in (("icon", icon(400)), ("banner", banner(1260, 540))):
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{name}.png", optimize=True)
        say(f"{name}.png")


def icon(side: int) -> Image.Image:
    """The stack alone, on a square."""
    image = Image.new("RGB", (side * SMOOTH, side * SMOOTH), BACKGROUND)
    _stack(ImageDraw.Draw(image), (side * SMOOTH * 0.07, side * SMOOTH * 0.3), side * SMOOTH * 0.6)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def banner(width: int, height: int) -> Image.Image:
    """The stack, and beside it the name and what it is."""
    image = Image.new("RGB", (width * SMOOTH, height * SMOOTH), BACKGROUND)
    pen = ImageDraw.Draw(image)
    high = height * SMOOTH
    _stack(pen, (high * 0.12, high * 0.3), high * 0.6)
    left = high * 1.12
    pen.text((left, high * 0.44), "Spacetime", fill=INK, font_size=high * 0.2, anchor="lm")
    pen.text((left, high * 0.6), "video diffusion transformers, part by part", fill=INK, font_size=high * 0.052)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _stack(pen: ImageDraw.ImageDraw, corner: Point, side: float) -> None:
    """Frames from back to front: the last one noise, the first one clean. `corner` is the front frame's top left."""
    step = side * 0.16
    for t in reversed(range(FRAMES)):
        _frame(pen, (corner[0] + t * step, corner[1] - t * step), side, t)


def _frame(pen: ImageDraw.ImageDraw, corner: Point, side: float, t: int) -> None:
    """One frame; `t` is its place in time, and its share of noise grows with it and from left to right."""
    dice = random.Random(t)  # always the same picture
    patch, dots = side / PATCHES, 6
    for row in range(PATCHES):
        for column in range(PATCHES):
            share = min(max((t + column / PATCHES) / FRAMES, 0), 1)
            left, top = corner[0] + column * patch, corner[1] + row * patch
            small = patch * 0.94 / dots
            for i in range(dots * dots):
                x, y = left + i % dots * small, top + i // dots * small
                clean = _scene((x - corner[0]) / side, (y - corner[1]) / side, t)
                noise = [dice.gauss(128, 70) for _ in range(3)]
                mixed = (round((1 - share) * c + share * n) for c, n in zip(clean, noise, strict=True))
                pen.rectangle((x, y, x + small, y + small), fill=tuple(min(max(value, 0), 255) for value in mixed))


def _scene(x: float, y: float, t: int) -> tuple[int, int, int]:
    """A ball that bounces over a floor, at a place from 0 to 1."""
    centre = 0.3 + 0.14 * t, 0.62 - 0.3 * math.sin(math.pi * t / FRAMES)
    if math.dist((x, y), centre) < 0.2:
        return BALL
    return GROUND if y > 0.78 else SKY
