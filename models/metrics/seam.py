"""Seams: does a video change more across a join, or from its last frame to its first, than it does elsewhere?"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from .report import Measure, Report


def changes(frames: Iterable[Tensor]) -> Iterator[float]:
    """Root mean square difference of each frame (H, W, C) in 0..1 to the one before it."""
    before: Tensor | None = None
    for frame in frames:
        if before is not None:
            yield difference(before, frame)
        before = frame


def difference(one: Tensor, other: Tensor) -> float:
    """Root mean square difference of two frames."""
    return float((one.float() - other.float()).square().mean().sqrt())


def seam_ratio(across: float, elsewhere: Sequence[float]) -> float:
    """Change across a seam / median change elsewhere: about 1 where nothing is seen, 1 too where nothing ever moves."""
    usual = statistics.median(elsewhere)
    if usual == 0:
        return 1.0 if across == 0 else float("inf")
    return across / usual


def measure_loop(frames: Iterable[Tensor]) -> Report:
    """The seam of a loop: from its last frame to its first."""
    first: Tensor | None = None
    last: Tensor | None = None

    def remembered() -> Iterator[Tensor]:
        nonlocal first, last
        for frame in frames:
            first = frame if first is None else first
            last = frame
            yield frame

    inside = list(changes(remembered()))
    if first is None or last is None or len(inside) < 2:
        raise ValueError(f"a loop of {len(inside) + 1 if first is not None else 0} frames has no seam: use 3 or more")
    across = difference(last, first)
    return _report("Measure Seam: loop", {"from the last frame to the first": across}, inside, [*inside, across])


def measure_joins(frames: Iterable[Tensor], joins: Sequence[int]) -> Report:
    """Seams inside a video: a join at frame j lies between frames j - 1 and j."""
    every = list(changes(frames))
    if not joins:
        raise ValueError("no join to measure: say before which frame the new part begins")
    for join in joins:
        if not 1 <= join <= len(every):
            raise ValueError(
                f"there is no join before frame {join}: a video of {len(every) + 1} frames has 1 to {len(every)}"
            )
    elsewhere = [value for index, value in enumerate(every, start=1) if index not in joins]
    if not elsewhere:
        raise ValueError(f"a video of {len(every) + 1} frames has nothing besides its joins to compare them with")
    return _report("Measure Seam: joins", {f"before frame {join}": every[join - 1] for join in joins}, elsewhere, every)


def _report(title: str, seams: dict[str, float], elsewhere: Sequence[float], curve: Sequence[float]) -> Report:
    ratios = {where: seam_ratio(value, elsewhere) for where, value in seams.items()}
    worst = max(ratios, key=lambda where: ratios[where])
    usual = statistics.median(elsewhere)
    measures = (
        Measure("seam", ratios[worst], "x the median change"),
        Measure("change across the seam", 100 * seams[worst], "% of full scale"),
        Measure("median change", 100 * usual, "% of full scale", tuple(100 * value for value in curve)),
    )
    remarks = [f"{where}: {ratio:.3g} x" for where, ratio in ratios.items()]
    if usual == 0:
        remarks.append("nothing moves in this video, so a seam means little")
    return Report(title, measures, tuple(remarks))


def picture_seams(frames: Tensor, columns: Sequence[int], rows: Sequence[int], apart: int = 8) -> list[float]:
    """Change across lines of the picture, in frames (F, H, W, 3), over that across lines `apart` pixels beside them.

    A line at j lies between pixels j - 1 and j. About 1 where it is not seen. ValueError for lines near the border.
    """
    ratios = []
    for axis, lines in ((2, columns), (1, rows)):
        steps = frames.float().diff(dim=axis).abs().mean(dim=[other for other in range(4) if other != axis])
        for line in lines:
            if not apart < line < len(steps) + 1 - apart:
                raise ValueError(f"a line at {line} of {len(steps) + 1} pixels has no lines {apart} beside it")
            beside = [float(steps[line - 1 - apart]), float(steps[line - 1 + apart])]
            ratios.append(seam_ratio(float(steps[line - 1]), beside))
    return ratios
