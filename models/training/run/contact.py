"""A contact sheet of clips: for each bucket its size and number of clips, and a few of them with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .chart import BACKGROUND, GRID, TEXT

WIDTH, COLUMNS, GAP = 660, 3, 6
FRAMES = 3  # of each clip: the first, the middle, the last
NOTE = (240, 190, 110)
TALLEST = 110  # of a clip's pictures
LINE, LINES, HEADING = 13, 2, 22
NOTES = 8
FONT_SIZE = 11


@dataclass(frozen=True)
class Shown:
    """A clip to show: its frames (F, H, W, 3) uint8, and what it is called."""

    frames: NDArray[np.uint8]
    caption: str


@dataclass
class Bucket:
    """Clips of one size: how many there are, and those that are shown."""

    name: str
    count: int
    shown: list[Shown] = field(default_factory=list)


def share_out(counts: Sequence[int], places: int) -> list[int]:
    """How many of each bucket are shown: in turn, so that every bucket is there before one is there twice."""
    shares = [0] * len(counts)
    while places > 0 and any(share < count for share, count in zip(shares, counts, strict=True)):
        for number, count in enumerate(counts):
            if places > 0 and shares[number] < count:
                shares[number] += 1
                places -= 1
    return shares


def contact_sheet(buckets: Sequence[Bucket], notes: Sequence[str] = ()) -> Image.Image:
    """Bucket below bucket, each with a heading and rows of clips; below them notes, such as what was skipped."""
    parts = [part for bucket in buckets for part in (_heading(bucket), *_rows(bucket.shown))]
    if len(notes) > NOTES:
        notes = [*notes[: NOTES - 1], f"and {len(notes) - NOTES + 1} more"]
    parts += [_note(note) for note in notes]
    sheet = Image.new("RGB", (WIDTH, sum(part.height for part in parts) + GAP), BACKGROUND)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _heading(bucket: Bucket) -> Image.Image:
    strip = Image.new("RGB", (WIDTH, HEADING), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    clips = "1 clip" if bucket.count == 1 else f"{bucket.count} clips"
    more = f", {len(bucket.shown)} shown" if len(bucket.shown) < bucket.count else ""
    draw.text((GAP, 5), f"{bucket.name}: {clips}{more}", fill=TEXT, font=_font())
    draw.line((GAP, HEADING - 2, WIDTH - GAP, HEADING - 2), fill=GRID)
    return strip


def _note(text: str) -> Image.Image:
    strip = Image.new("RGB", (WIDTH, LINES * LINE + 4), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    lines = _wrapped(draw, text, WIDTH - 2 * GAP)
    for number, line in enumerate(lines):
        draw.text((GAP, 3 + number * LINE), line, fill=NOTE, font=_font())
    return strip.crop((0, 0, WIDTH, len(lines) * LINE + 4))


def _rows(shown: Sequence[Shown]) -> list[Image.Image]:
    """Clips of one size, COLUMNS to a row."""
    side = WIDTH // COLUMNS
    rows = []
    for start in range(0, len(shown), COLUMNS):
        tiles = [_tile(clip, side) for clip in shown[start : start + COLUMNS]]
        row = Image.new("RGB", (WIDTH, max(tile.height for tile in tiles)), BACKGROUND)
        for number, tile in enumerate(tiles):
            row.paste(tile, (number * side, 0))
        rows.append(row)
    return rows


def _tile(clip: Shown, width: int) -> Image.Image:
    """A few frames of a clip beside each other, its caption below."""
    count = min(FRAMES, len(clip.frames))
    numbers = np.linspace(0, len(clip.frames) - 1, count).round().astype(int) if count > 1 else [len(clip.frames) // 2]
    pictures = [Image.fromarray(clip.frames[number]) for number in numbers]
    room = (width - 2 * GAP - (FRAMES - 1) * 2) // FRAMES
    scale = min(room / pictures[0].width, TALLEST / pictures[0].height)
    size = max(1, round(pictures[0].width * scale)), max(1, round(pictures[0].height * scale))
    tile = Image.new("RGB", (width, size[1] + GAP + LINES * LINE + GAP), BACKGROUND)
    for number, picture in enumerate(pictures):
        tile.paste(picture.resize(size), (GAP + number * (size[0] + 2), GAP // 2))
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate(_wrapped(draw, clip.caption, width - 2 * GAP)):
        draw.text((GAP, size[1] + GAP + number * LINE), line, fill=TEXT, font=_font())
    return tile


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    """The words of a text in at most LINES lines; what does not fit ends in dots."""
    lines, rest = [""], text.split() or ["(no caption)"]
    for word in rest:
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=_font()) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = lines[:LINES]
    if len(lines) > LINES:
        kept[-1] += " ..."
    for number, line in enumerate(kept):
        while draw.textlength(line, font=_font()) > width and len(line) > 4:
            line = line.removesuffix(" ...")[:-1].rstrip() + " ..."  # noqa: PLW2901 - until it fits
        kept[number] = line
    return kept


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
