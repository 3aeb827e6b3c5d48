"""A model's continuations of true clips beside the true ones, a frozen picture and the true frames in random order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .probe_cases import PROBES
from .probes import MEASURES, Case, Frames, frozen, shuffled
from .report import Measure, Report

JUDGED = ("model", "truth", "frozen", "shuffled")


def scores(measure: str, cases: Sequence[Case], clips: Sequence[Frames]) -> dict[str, tuple[float, ...]]:
    """What a measure of probes.MEASURES says of the clips and of each of JUDGED's others, case by case."""
    of = MEASURES[measure].of
    others = {
        "model": clips,
        "truth": [case.truth.frames for case in cases],
        "frozen": [frozen(case.truth.frames, case.known) for case in cases],
        "shuffled": [shuffled(case.truth.frames, case.known) for case in cases],
    }
    return {name: tuple(of(clip, case) for clip, case in zip(others[name], cases, strict=True)) for name in JUDGED}


def measure_simulation(cases: Sequence[Case], clips: Sequence[Frames]) -> Report:
    """Report on continuations (F, H, W, 3) uint8 of the cases of one probe, in their order.

    For each measure of the probe four means over the cases: the model's, the ceiling (truth) and the floors. And
    between them "solved": 0 at the better floor, 1 at the truth. ValueError for clips of another size or length.
    """
    if not cases or len(cases) != len(clips):
        raise ValueError(f"{len(cases)} probes and {len(clips)} videos: connect the video that belongs to each probe")
    for case, clip in zip(cases, clips, strict=True):
        if clip.shape != case.truth.frames.shape:
            raise ValueError(
                f"a video of {_size(clip)} cannot be judged by a true clip of {_size(case.truth.frames)}: generate as "
                "many frames of the same size, the given ones first"
            )
    measures: list[Measure] = []
    remarks = [f"{len(cases)} clips, {cases[0].known} frames given, {len(clips[0]) - cases[0].known} judged"]
    for name in PROBES[cases[0].probe].measures:
        found = {who: float(np.mean(values)) for who, values in scores(name, cases, clips).items()}
        unit = MEASURES[name].unit
        measures += [Measure(f"{name}, {who}", value, unit) for who, value in found.items()]
        measures.append(Measure(f"{name}, solved", 100 * solved(found, MEASURES[name].more_is_better), "%"))
        remarks.append(f"{name}: {'more' if MEASURES[name].more_is_better else 'less'} is better")
    return Report(f"Measure Simulation: {cases[0].probe}", tuple(measures), tuple(remarks))


def solved(found: dict[str, float], more_is_better: bool) -> float:
    """Where the model lies between the better floor (0) and the truth (1); below 0 for worse than the floor."""
    sign = 1 if more_is_better else -1
    floor = max(sign * found["frozen"], sign * found["shuffled"])
    span = sign * found["truth"] - floor
    return (sign * found["model"] - floor) / span if span > 0 else float("nan")


def _size(clip: Frames) -> str:
    return f"{len(clip)} frames of {clip.shape[2]} x {clip.shape[1]}"
