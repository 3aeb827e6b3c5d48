"""A report's curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .report import Measure, Report

WIDTH, ROW, MARGIN, BAR = 640, 130, 12, 26
BACKGROUND, GRID, TEXT, CURVE = (24, 26, 32), (60, 64, 74), (215, 218, 224), (104, 190, 255)
BELOW = (255, 132, 96)  # bars of values below 0


def plot(report: Report) -> Tensor:
    """The report as a picture (1, height, 640, 3) in 0..1.

    One curve per measure that has a value per frame, one under the other; without such measures a bar for each.
    """
    rows = [measure for measure in report.measures if len(measure.per_frame) > 1]
    height = len(rows) * ROW if rows else MARGIN + len(report.measures) * BAR
    image = Image.new("RGB", (WIDTH, MARGIN + height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for index, measure in enumerate(rows):
        _curve(draw, measure, MARGIN + index * ROW)
    if not rows:
        _bars(draw, report.measures)
    return torch.from_numpy(np.array(image)).float()[None] / 255


def _curve(draw: ImageDraw.ImageDraw, measure: Measure, top: int) -> None:
    values = [value for value in measure.per_frame if math.isfinite(value)]
    highest = max([*values, 1e-9])
    lowest = min([*values, 0.0])
    draw.text((MARGIN, top), f"{measure.text()}   (0 to {highest:.3g}, frame by frame)", fill=TEXT)
    box = (MARGIN, top + 18, WIDTH - MARGIN, top + ROW - MARGIN)
    draw.rectangle(box, outline=GRID)
    draw.line(_points(measure.per_frame, box, lowest, highest), fill=CURVE, width=2)


def _bars(draw: ImageDraw.ImageDraw, measures: Sequence[Measure]) -> None:
    """Names at the left, bars from the middle on; those of one unit share a scale."""
    left, right = WIDTH // 2, WIDTH - MARGIN
    for index, measure in enumerate(measures):
        top = MARGIN + index * BAR
        draw.text((MARGIN, top), measure.text(), fill=TEXT)
        draw.rectangle((left, top, right, top + BAR - 8), outline=GRID)
        values = [abs(one.value) for one in measures if one.unit == measure.unit and math.isfinite(one.value)]
        if math.isfinite(measure.value) and max(values) > 0:
            length = (right - left) * abs(measure.value) / max(values)
            colour = CURVE if measure.value >= 0 else BELOW
            draw.rectangle((left, top, left + length, top + BAR - 8), fill=colour)


def _points(
    values: Sequence[float], box: tuple[int, int, int, int], lowest: float, highest: float
) -> list[tuple[float, float]]:
    left, top, right, bottom = box
    step = (right - left) / (len(values) - 1)
    height = (bottom - top) / (highest - lowest)

    def y(value: float) -> float:
        return bottom - (min(value, highest) - lowest) * height if math.isfinite(value) else float(top)

    return [(left + index * step, y(value)) for index, value in enumerate(values)]
