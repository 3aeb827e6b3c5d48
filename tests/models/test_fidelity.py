"""The judge of clips is itself judged, on clips whose truth is known."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from comfyui_spacetime.models.metrics.fidelity import Expectation, held_out_prompts, judge
from comfyui_spacetime.models.metrics.segmentation import connected, setting
from comfyui_spacetime.models.metrics.silhouettes import shape_of_mask
from comfyui_spacetime.models.toyworld import (
    COLOURS,
    FLOORS,
    KINDS,
    SHAPES,
    SKIES,
    is_held_out,
    render,
    sample_scene,
)
from comfyui_spacetime.models.toyworld import wordings as words

OPPOSITE = {"left": "right", "right": "left"}


@cache
def truth():
    """150 rendered clips, all kinds in turn, with what they show."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(150):
        scene = sample_scene(rng, kind=KINDS[i % len(KINDS)], num_frames=25)
        rows.append((scene, Expectation.of(scene), render(scene, num_frames=25, height=96, width=96).frames))
    return rows


def rate(verdicts, field):
    return np.mean([verdict[field] is True for verdict in verdicts])


def test_truth_is_accepted():
    verdicts = [judge(frames, expected) for _, expected, frames in truth()]
    measured = {field: rate(verdicts, field) for field in ("colour", "count", "shape", "motion")}
    assert measured["colour"] >= 0.97, measured
    assert measured["count"] >= 0.97, measured
    assert measured["shape"] >= 0.93, measured
    assert measured["motion"] >= 0.93, measured


def test_what_is_not_shown_is_rejected():
    rng = np.random.default_rng(1)
    rows = defaultdict(list)
    for _, expected, frames in truth()[:40]:
        (colour, shape), *rest = expected.objects
        unused = rng.choice([c for c in COLOURS if c not in {c for c, _ in expected.objects}])
        other_shape = rng.choice([s for s in SHAPES if s != shape])
        other_kind = rng.choice([k for k in ("bounce", "fall", "roll", "hide", "orbit", "still") if k != expected.kind])
        wrong = {
            "colour": replace(expected, objects=((unused, shape), *rest)),
            "shape": replace(expected, objects=((colour, other_shape), *rest)),
            "count": replace(expected, objects=(*expected.objects, (unused, "ball"))),
            "motion": replace(expected, kind=other_kind, direction=expected.direction or "left"),
        }
        if expected.direction:
            rows["direction"].append(judge(frames, replace(expected, direction=OPPOSITE[expected.direction]))["motion"])
        for field, expectation in wrong.items():
            rows[field].append(judge(frames, expectation)[field])
    for field, verdicts in rows.items():
        assert np.mean([verdict is True for verdict in verdicts]) < 0.05, field


def test_grain_and_softness_do_not_mislead_it():
    rng = np.random.default_rng(2)
    verdicts = []
    for _, expected, frames in truth()[40:70]:
        soft = (frames[:, :-1, :-1].astype(int) + frames[:, 1:, :-1] + frames[:, :-1, 1:] + frames[:, 1:, 1:]) / 4
        soft = np.pad(soft, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
        grainy = np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
        verdicts.append(judge(grainy, expected))
    for field in ("colour", "count", "motion"):
        assert rate(verdicts, field) >= 0.9, field
    assert rate(verdicts, "shape") >= 0.8


def test_a_clip_without_objects_has_none():
    empty = np.full((9, 96, 96, 3), 200, dtype=np.uint8)
    verdict = judge(empty, Expectation((("red", "ball"),), "still"))
    assert verdict == {"colour": False, "shape": None, "motion": None, "count": False}


def test_one_frame_is_judged_without_motion():
    scene = sample_scene(np.random.default_rng(3), kind="still")
    verdict = judge(render(scene, num_frames=1, height=96, width=96).frames, Expectation.of(scene))
    assert verdict["motion"] is None
    assert verdict["colour"] is True


def test_the_backdrop_is_recognised():
    for floor in FLOORS:
        for sky in SKIES:
            scene = replace(sample_scene(np.random.default_rng(4), kind="roll"), floor=floor, sky=sky)
            assert setting(render(scene, num_frames=3, height=64, width=96).frames) == (floor, sky)


def test_regions_are_those_of_a_flood_fill():
    rng = np.random.default_rng(5)
    classes = rng.integers(0, 3, (2, 9, 12)).astype(np.uint8)
    numbers = connected(classes)
    for frame, labels in zip(numbers, classes, strict=True):
        for start in np.ndindex(labels.shape):
            reached, stack = {start}, [start]
            while stack:
                y, x = stack.pop()
                for ny, nx in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                    inside = 0 <= ny < 9 and 0 <= nx < 12
                    if inside and (ny, nx) not in reached and labels[ny, nx] == labels[start]:
                        reached.add((ny, nx))
                        stack.append((ny, nx))
            assert {tuple(p) for p in np.argwhere(frame == frame[start])} == reached


def test_plain_outlines():
    y, x = (np.mgrid[:24, :24] + 0.5) / 12 - 1
    assert shape_of_mask(x**2 + y**2 <= 1) == "ball"
    assert shape_of_mask(np.ones((20, 22), dtype=bool)) == "cube"
    assert shape_of_mask(np.ones((26, 17), dtype=bool)) == "cylinder"
    assert shape_of_mask(np.abs(x) <= (y + 1) / 2) == "cone"


def test_held_out_prompts_are_unseen_in_the_way_they_say():
    prompts = held_out_prompts(120, seed=0)
    assert prompts == held_out_prompts(120, seed=0)
    assert Counter(group for _, _, group in prompts) == {"unseen combination": 60, "unseen wording": 60}
    assert set(Counter(expected.kind for _, expected, _ in prompts).values()) == {12}
    templates = {t.split("{")[0] for kind in words.TEMPLATES_HELD_OUT.values() for t in kind}
    for prompt, expected, group in prompts:
        unseen = any(is_held_out(colour, shape, expected.kind) for colour, shape in expected.objects)
        assert unseen == (group == "unseen combination")
        if group == "unseen wording":
            assert any(prompt.startswith(start) for start in templates), prompt


def test_bad_requests_say_what_to_do():
    with pytest.raises(ValueError, match="one of bounce"):
        Expectation((("red", "ball"),), "explode")
    with pytest.raises(ValueError, match="at least 2"):
        Expectation((("red", "ball"),), "collide")
    with pytest.raises(ValueError, match="uint8"):
        judge(np.zeros((3, 8, 8, 3)), Expectation((("red", "ball"),), "still"))
