"""How a run is going, as a picture: its loss curve over its latest samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ...files import parsed_json

WIDTH, HEIGHT, MARGIN = 640, 200, 12
LARGEST = 1e15  # a larger value is a damaged line
TALLEST = 560  # of the strip below: a node is no poster
BACKGROUND, GRID, TEXT = (24, 26, 32), (60, 64, 74), (215, 218, 224)
CURVES = {
    "loss": (104, 190, 255),
    "validation_loss": (255, 176, 80),
    "batch_psnr": (110, 120, 135),
    "psnr": (120, 220, 130),
    "ssim": (200, 160, 240),  # no curve: its scale is another
    "words": (120, 220, 130),
    "fields": (235, 120, 200),
}
NAMES = {
    "loss": "loss",
    "validation_loss": "validation loss",
    "batch_psnr": "PSNR of batches",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "words": "shared words",
    "fields": "right facts",
}

Row = dict[str, float]


def read_log(path: Path) -> list[Row]:
    """The lines of a log.jsonl, one per step and kind: those that a resumed run wrote again replace the first."""
    rows: dict[tuple[float, bool], Row] = {}
    try:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    for line in lines:
        row = _row(line)
        if row:
            rows[row["step"], "loss" in row] = row
    return [rows[key] for key in sorted(rows)]


def _row(line: str) -> Row:
    """A line as numbers; empty for one that is being written, or was when the process was killed."""
    try:
        found = parsed_json(line, "a line of the log", dict, nan=True)
    except ValueError:
        return {}
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    row = {name: value for name, value in numbers.items() if not abs(value) > LARGEST}  # NaN is said as such
    return row if row.get("step", -1) >= 0 else {}


def latest_sample(folder: Path) -> Path | None:
    """The newest strip of a run."""
    return max(folder.glob("samples/*.png"), default=None)


def progress_picture(folder: Path, steps: int) -> Image.Image:
    """The loss curve of a run folder and, below, its latest strip of samples."""
    rows = read_log(folder / "log.jsonl")
    names = [name for name in CURVES if any(name in row for row in rows)]
    curve = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(curve)
    done = int(max((row["step"] for row in rows), default=0))
    left = MARGIN
    for name in names:
        latest = next(row[name] for row in reversed(rows) if name in row)
        text = f"{NAMES[name]} {latest:.4g}"
        draw.text((left, 4), text, fill=CURVES[name])
        left += round(draw.textlength(text)) + 20
    draw.text((WIDTH - 130, 4), f"step {done} of {steps}", fill=TEXT)
    box = (MARGIN, 22, WIDTH - MARGIN, HEIGHT - MARGIN)
    draw.rectangle(box, outline=GRID)
    for group in (("loss", "validation_loss"), ("batch_psnr", "psnr"), ("words", "fields")):
        _curves(draw, rows, [name for name in group if name in names], box, steps)
    strip = latest_sample(folder)
    return _above(curve, strip) if strip else curve


def _curves(
    draw: ImageDraw.ImageDraw, rows: Sequence[Row], names: Sequence[str], box: tuple[int, int, int, int], steps: int
) -> None:
    """Curves that share a scale, each value at its step."""
    points = {
        name: [(row["step"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))] for name in names
    }
    values = sorted(value for curve in points.values() for _, value in curve)
    if not values:
        return
    lowest, highest = values[0], values[min(len(values) - 1, int(0.98 * len(values)))]  # the first peaks may stick out
    for name, curve in points.items():
        line = [
            (
                box[0] + step / max(steps, 1) * (box[2] - box[0]),
                box[3] - min(1.0, (value - lowest) / max(highest - lowest, 1e-9)) * (box[3] - box[1]),
            )
            for step, value in curve
        ]
        if len(line) > 1:
            draw.line(line, fill=CURVES[name], width=2)
        for x, y in line if len(line) < 12 else line[-1:]:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=CURVES[name])


def _above(curve: Image.Image, strip: Path) -> Image.Image:
    try:
        with Image.open(strip) as opened:
            below = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return curve
    below = below.resize((WIDTH, max(1, round(below.height * WIDTH / below.width))))
    below = below.crop((0, 0, WIDTH, min(below.height, TALLEST)))
    both = Image.new("RGB", (WIDTH, HEIGHT + below.height), BACKGROUND)
    both.paste(curve, (0, 0))
    both.paste(below, (0, HEIGHT))
    return both
