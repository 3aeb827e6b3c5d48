"""Frames of videos laid out as one picture."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ...models.files import write_bytes

GAP = 4
BACKGROUND = (24, 24, 28)
INK = (225, 225, 230)
LARGEST = 58_000  # bytes of a thumbnail
LARGEST_MOVING = 1_500_000  # of the README's moving picture
MOMENT = 83  # milliseconds that a frame stands: 12 frames a second, as in the videos


def video_frames(path: Path) -> list[Image.Image]:
    """All frames of a video file."""
    from ...models.media.colour import as_bytes
    from ...models.media.reader import open_file, shown

    return [Image.fromarray(as_bytes(frame.pixels())) for frame in shown(open_file(path))]


def pick(frames: Sequence[Image.Image], count: int) -> list[Image.Image]:
    """Frames at equal distances, the first and the last among them."""
    last = len(frames) - 1
    return [frames[round(i * last / max(count - 1, 1))] for i in range(count)]


def grid(frames: Sequence[Image.Image], columns: int, width: int) -> Image.Image:
    """Frames row by row, each as wide as a column of a picture of this width."""
    w = (width - GAP * (columns + 1)) // columns
    h = round(w * frames[0].height / frames[0].width)
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * (w + GAP) + GAP, rows * (h + GAP) + GAP), BACKGROUND)
    for i, frame in enumerate(frames):
        place = GAP + i % columns * (w + GAP), GAP + i // columns * (h + GAP)
        sheet.paste(frame.convert("RGB").resize((w, h), Image.Resampling.LANCZOS), place)
    return sheet


def captioned(rows: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures below one another, each under its own line of text."""
    font = ImageFont.load_default(16)
    line = 30
    width = max(picture.width for _, picture in rows)
    sheet = Image.new("RGB", (width, sum(picture.height + line for _, picture in rows)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    y = 0
    for text, picture in rows:
        draw.text((GAP + 4, y + line // 2), text, INK, font, anchor="lm")
        sheet.paste(picture, (0, y + line))
        y += line + picture.height
    return sheet


def save_jpeg(picture: Image.Image, path: Path, largest: int = LARGEST) -> None:
    """Save with the best quality that stays within a size in bytes."""
    for quality in range(92, 30, -4):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= largest:
            break
    write_bytes(path, data.getvalue())


def save_webp(picture: Image.Image, path: Path, largest: int) -> None:
    """Save as a still WebP with the best quality that stays within a size in bytes."""
    for quality in range(80, 10, -10):
        data = io.BytesIO()
        picture.save(data, "WEBP", quality=quality, method=6)
        if data.tell() <= largest:
            break
    write_bytes(path, data.getvalue())


def save_moving(frames: Sequence[Image.Image], path: Path, largest: int = LARGEST_MOVING) -> None:
    """Save as a WebP that plays for ever, with the best quality that stays within a size in bytes."""
    for quality in range(80, 20, -10):
        data = io.BytesIO()
        options = {"quality": quality, "duration": MOMENT, "loop": 0, "method": 4}
        frames[0].save(data, "WEBP", save_all=True, append_images=list(frames[1:]), **options)
        if data.tell() <= largest:
            break
    write_bytes(path, data.getvalue())
