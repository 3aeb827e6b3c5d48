"""A report's curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .report import Measure, Report

WIDTH, ROW, MARGIN = 640, 130, 12
BACKGROUND, GRID, TEXT, CURVE = (24, 26, 32), (60, 64, 74), (215, 218, 224), (104, 190, 255)


def plot(report: Report) -> Tensor:
    """One curve per measure that has a value per frame, one under the other: (1, height, 640, 3) in 0..1."""
    rows = [measure for measure in report.measures if len(measure.per_frame) > 1]
    image = Image.new("RGB", (WIDTH, MARGIN + max(1, len(rows)) * ROW), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for index, measure in enumerate(rows):
        _curve(draw, measure, MARGIN + index * ROW)
    if not rows:
        draw.text((MARGIN, MARGIN), f"{report.title}: no curves", fill=TEXT)
    return torch.from_numpy(np.array(image)).float()[None] / 255


def _curve(draw: ImageDraw.ImageDraw, measure: Measure, top: int) -> None:
    values = [value for value in measure.per_frame if math.isfinite(value)]
    highest = max([*values, 1e-9])
    lowest = min([*values, 0.0])
    draw.text((MARGIN, top), f"{measure.text()}   (0 to {highest:.3g}, frame by frame)", fill=TEXT)
    box = (MARGIN, top + 18, WIDTH - MARGIN, top + ROW - MARGIN)
    draw.rectangle(box, outline=GRID)
    draw.line(_points(measure.per_frame, box, lowest, highest), fill=CURVE, width=2)


def _points(
    values: Sequence[float], box: tuple[int, int, int, int], lowest: float, highest: float
) -> list[tuple[float, float]]:
    left, top, right, bottom = box
    step = (right - left) / (len(values) - 1)
    height = (bottom - top) / (highest - lowest)

    def y(value: float) -> float:
        return bottom - (min(value, highest) - lowest) * height if math.isfinite(value) else float(top)

    return [(left + index * step, y(value)) for index, value in enumerate(values)]
