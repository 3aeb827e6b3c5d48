"""The report on continuations: truth is solved, floors are not, and clips of another size are refused."""

from functools import cache

import pytest

from comfyui_spacetime.models.metrics.plot import plot
from comfyui_spacetime.models.metrics.probe_cases import cases
from comfyui_spacetime.models.metrics.probes import frozen
from comfyui_spacetime.models.metrics.simulation import measure_simulation, solved


@cache
def chosen():
    return cases("camera moves", 2, height=64, width=64)


def test_true_clips_are_solved_and_a_frozen_picture_is_not():
    report = measure_simulation(chosen(), [case.truth.frames for case in chosen()])
    for name in ("track error", "epipolar error", "floor agreement"):
        assert report.value(f"{name}, model") == report.value(f"{name}, truth")
        assert report.value(f"{name}, solved") == pytest.approx(100)
    still = measure_simulation(chosen(), [frozen(case.truth.frames, case.known) for case in chosen()])
    assert still.value("track error, model") == still.value("track error, frozen")
    assert still.value("track error, solved") <= 1e-6
    assert "2 clips, 9 frames given, 24 judged" in still.remarks
    assert plot(still).shape[1] > 26 * len(still.measures)


def test_worse_than_the_floor_is_below_zero():
    found = {"model": 12.0, "truth": 1.0, "frozen": 9.0, "shuffled": 20.0}
    assert solved(found, more_is_better=False) == pytest.approx(-3 / 8)
    assert solved({**found, "model": 1.0}, more_is_better=False) == pytest.approx(1)


def test_another_size_or_number_is_refused():
    clips = [case.truth.frames for case in chosen()]
    with pytest.raises(ValueError, match="2 probes and 1 videos"):
        measure_simulation(chosen(), clips[:1])
    with pytest.raises(ValueError, match="29 frames of 64 x 64 cannot be judged by a true clip of 33 frames"):
        measure_simulation(chosen(), [clip[:29] for clip in clips])
