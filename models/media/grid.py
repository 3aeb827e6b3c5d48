"""From frames with times to frames at an even rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TypeVar

USUAL = tuple(Fraction(n) for n in (10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)) + tuple(
    Fraction(n * 1000, 1001) for n in (12, 15, 24, 30, 48, 60, 120)
)
FASTEST = 240  # frames per second; what says more counts clock ticks

Frame = TypeVar("Frame")


def on_grid(frames: Iterable[tuple[float, float, Frame]], fps: float, early: float) -> Iterator[Frame]:
    """The frame that is shown at each moment i / fps, from (time, end, frame) in order of time.

    Frames repeat where they stand longer, and are left out where several fall between two moments. `early`: a frame
    that comes at most so many seconds after a moment counts as there; half a step is what ffmpeg's filter `fps` does.
    """
    number, latest, end = 0, None, 0.0
    for time, until, frame in frames:
        while latest is not None and number / fps + early <= time:
            yield latest
            number += 1
        latest, end = frame, until
    while latest is not None and number / fps + early < end - 1e-6:
        yield latest
        number += 1


def even_rate(named: Fraction | None, times: Sequence[float]) -> Fraction:
    """The rate to read a file at: the one it names, unless the times of its first frames say otherwise.

    Files of varying rate name an average, or the ticks of their clock: then most frames' distance counts.
    """
    ordered = sorted(set(times))
    steps = [b - a for a, b in pairwise(ordered) if b > a]
    if not steps:
        return named if named and named <= FASTEST else Fraction(25)
    usual = median(steps)
    if named and named <= FASTEST and abs(usual * float(named) - 1) < 0.2:
        return named
    measured = min(1 / usual, float(FASTEST))
    nearest = min(USUAL, key=lambda rate: abs(float(rate) / measured - 1))
    return nearest if abs(float(nearest) / measured - 1) < 0.04 else Fraction(measured).limit_denominator(100)
