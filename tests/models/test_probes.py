"""Each probe tells the true continuation from a frozen and from a shuffled one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from comfyui_spacetime.models.metrics.probe_cases import PROBES, cases
from comfyui_spacetime.models.metrics.probes import MEASURES, frozen, permanence, project, shuffled, track_error
from comfyui_spacetime.models.toyworld import render, sample_scene, simulate

PAIRS = [(name, measure) for name, probe in PROBES.items() for measure in probe.measures]
# at least as good as this on true clips
CEILINGS = {
    "permanence": 0.9,
    "track error": 2.0,
    "epipolar error": 1.5,
    "floor agreement": 0.95,
    "coherence": 0.85,
}


@cache
def chosen(name):
    return cases(name, 2, height=64, width=64)


def as_it_is(frames, known):
    return frames


def value(name, measure, change):
    rows = chosen(name)
    return np.mean([MEASURES[measure].of(change(case.truth.frames, case.known), case) for case in rows])


@pytest.mark.parametrize(("name", "measure"), PAIRS)
def test_a_probe_discriminates(name, measure):
    truth, still, mixed = (value(name, measure, change) for change in (as_it_is, frozen, shuffled))
    if MEASURES[measure].more_is_better:
        assert truth >= CEILINGS[measure]
        assert max(still, mixed) < truth - 0.3
    else:
        assert truth <= CEILINGS[measure]
        assert min(still, mixed) > 2 * truth


@pytest.mark.parametrize("name", PROBES)
def test_cases_are_repeatable_and_leave_something_to_predict(name):
    for case in chosen(name):
        assert case.plain().any()
        assert not case.plain()[: case.known].any()
        assert case.prompt
    again = cases(name, 1, height=64, width=64)[0]
    assert np.array_equal(again.truth.frames, chosen(name)[0].truth.frames)


def test_long_videos_are_as_long_as_three_windows():
    assert {len(case.truth.frames) for case in chosen("long-range coherence")} == {33 + 2 * 24}


def test_an_object_that_never_comes_back_is_not_permanent():
    case = chosen("object permanence")[0]
    gone = case.truth.frames.copy()
    first = np.flatnonzero(case.hidden())[0]
    gone[first:] = gone[first]
    assert permanence(gone, case) == 0.0
    assert permanence(case.truth.frames, case) > 0.9


def test_an_object_of_another_colour_is_missing():
    case = chosen("fall")[0]
    other = replace(case.scene.bodies[0], colour="green" if case.scene.bodies[0].colour != "green" else "red")
    scene = replace(case.scene, bodies=(other, *case.scene.bodies[1:]))
    assert track_error(render(scene, num_frames=33, height=64, width=64).frames, case) > 25


def test_places_in_the_picture_are_where_the_renderer_draws():
    scene = sample_scene(np.random.default_rng(2), kind="roll")
    clip = render(scene, num_frames=9, height=64, width=96)
    places = project(simulate(scene, 9, 12.0).positions, clip.state, (64, 96))
    boxes = clip.boxes[:, 0] * 100 / 64
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    whole = (clip.boxes[:, 0, 0] > 0) & (clip.boxes[:, 0, 2] < 96)
    assert np.abs(places[whole, 0] - middle[whole]).max() < 2.5


def test_a_clip_without_anything_hidden_is_refused():
    case = chosen("fall")[0]
    with pytest.raises(ValueError, match="choose another"):
        permanence(case.truth.frames, case)
    with pytest.raises(ValueError, match="unknown probe"):
        cases("gravity", 1)
