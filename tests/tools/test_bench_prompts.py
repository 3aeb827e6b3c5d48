"""The judges of prompts over time, against rendered clips whose truth is known: two scenes, spliced in the middle."""

from dataclasses import replace

import numpy as np
import pytest

from comfyui_spacetime.models.toyworld import sample_scene
from comfyui_spacetime.models.toyworld.renderer import render
from comfyui_spacetime.tools.bench.prompts import colour_changes, colours_beside, stops, way_changes


def clip(kind: str, colour: str, *, direction: str | None = None, reverse: bool = False) -> np.ndarray:
    """A rendered clip of one object of this colour."""
    for seed in range(1000):
        scene = sample_scene(np.random.default_rng([5, seed]), kind=kind)
        wanted = direction is None or scene.direction == direction
        if len(scene.objects) == len(scene.bodies) == 1 and scene.objects[0].shape == "cube" and wanted:
            own = replace(scene, bodies=(replace(scene.bodies[0], colour=colour),))
            frames = render(own, num_frames=33, height=96, width=96).frames
            return frames[::-1] if reverse else frames
    raise AssertionError("no such scene")


def spliced(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first[:16], second[16:]])


def test_a_colour_that_changes():
    red, blue = clip("spin", "red"), clip("spin", "blue")
    assert colour_changes(spliced(red, blue), ("red", "blue"))
    for wrong in (red, blue, spliced(blue, red)):
        assert not colour_changes(wrong, ("red", "blue"))


def test_a_motion_that_ends():
    turning = clip("spin", "green")
    standing = np.repeat(turning[15:16], 33, axis=0)
    assert stops(spliced(turning, standing), "green")
    for wrong in (turning, standing, spliced(standing, turning)):
        assert not stops(wrong, "green")


@pytest.mark.parametrize(("way", "sign"), [("right", 1.0), ("left", -1.0)])
def test_a_way_that_turns_round(way, sign):
    there, back = clip("roll", "red", direction=way), clip("roll", "red", direction=way, reverse=True)
    assert way_changes(spliced(there, back), ("red", sign))
    for wrong in (there, back, spliced(back, there)):
        assert not way_changes(wrong, ("red", sign))


def test_colours_side_by_side():
    red, blue = clip("spin", "red"), clip("spin", "blue")
    beside = np.concatenate([red, blue], axis=2)
    assert colours_beside(beside, ("red", "blue"))
    assert not colours_beside(beside, ("blue", "red"))
    assert not colours_beside(red, ("red", "blue"))
