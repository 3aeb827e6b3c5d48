"""The toy world: exact mechanics, pictures that agree with the truth, captions that determine the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from comfyui_spacetime.models.toyworld import (
    COLOURS,
    CYCLIC_KINDS,
    KINDS,
    caption_held_out,
    detailed_caption,
    held_out_combinations,
    is_held_out,
    render,
    sample_scene,
    short_caption,
    simulate,
)
from comfyui_spacetime.models.toyworld import wordings as words
from comfyui_spacetime.models.toyworld.physics import contact_distance
from comfyui_spacetime.models.toyworld.world import GRAVITY, WALL_COLOURS, Body, Scene

FPS = 12.0
SMALL = {"num_frames": 5, "height": 48, "width": 48}


def scenes(kind=None, count=10, seed=0, **options):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, kind=kind, **options) for _ in range(count)]


def test_a_fall_is_the_exact_parabola_until_it_lands():
    for scene in scenes("fall"):
        body = scene.bodies[0]
        state = simulate(scene, 33, FPS)
        drop = body.position[1] - body.half_extents[1]
        times = np.arange(33) / FPS
        flying = times < np.sqrt(2 * drop / GRAVITY)
        expected = body.position[1] - GRAVITY / 2 * times[flying] ** 2
        np.testing.assert_allclose(state.positions[flying, 0, 1], expected, rtol=0, atol=1e-12)
        assert state.positions[:, 0, 1].min() >= body.half_extents[1] - 1e-12
        assert state.positions[-1, 0, 1] < 0.5 * body.position[1]


def test_between_bounces_energy_is_kept_and_each_bounce_keeps_restitution_squared():
    body = Body(shape="ball", colour="red", size=0.5, position=(0.0, 2.0, 0.0), motion="fly", restitution=0.8)
    state = simulate(Scene(kind="bounce", bodies=(body,)), 3000, 1000.0)
    height, speed = state.positions[:, 0, 1] - 0.5, state.velocities[:, 0, 1]
    energy = speed**2 / 2 + GRAVITY * height
    levels = np.unique(energy.round(9))[::-1]
    np.testing.assert_allclose(levels[1:] / levels[:-1], 0.64, atol=1e-6)
    assert len(levels) >= 3


def test_collisions_conserve_momentum_and_energy_at_the_true_contact():
    for scene in scenes("collide", count=20):
        masses = np.array([body.mass for body in scene.bodies])
        state = simulate(scene, 600, 200.0)
        v, x = state.velocities[..., 0], state.positions[..., 0]
        np.testing.assert_allclose(v @ masses, (v @ masses)[0], rtol=1e-12)
        np.testing.assert_allclose((v**2) @ masses, ((v**2) @ masses)[0], rtol=1e-12)
        gap = x[:, 1] - x[:, 0]
        contact = contact_distance(*scene.bodies)
        assert contact <= gap.min() < contact + 0.02, "they meet, and never overlap"
        assert v[0, 0] > 0 > v[0, 1]
        assert v[-1, 0] < 0 < v[-1, 1]


def test_balls_of_different_size_touch_where_their_surfaces_do():
    a, b = (Body(shape="ball", colour="red", size=size, position=(0.0, size, 0.0)) for size in (0.3, 0.7))
    distance = np.hypot(contact_distance(a, b), a.position[1] - b.position[1])
    assert distance == pytest.approx(a.size + b.size)


def test_balls_roll_without_slipping():
    ball = Body(shape="ball", colour="red", size=0.4, position=(-1.0, 0.4, 0.0), motion="floor", velocity=(1.2, 0, 0))
    state = simulate(Scene(kind="roll", bodies=(ball,)), 200, 1000.0)
    # the lowest point of the ball is at rest: centre velocity + spin x arm = 0
    change = (state.rotations[2:, 0] - state.rotations[:-2, 0]) * 500.0
    spin = np.einsum("fij,fkj->fik", change, state.rotations[1:-1, 0])  # skew matrix of the angular velocity
    contact = state.velocities[1:-1, 0] + spin @ np.array([0.0, -0.4, 0.0])
    np.testing.assert_allclose(contact, 0, atol=1e-5)


@pytest.mark.parametrize("kind", CYCLIC_KINDS)
def test_periodic_scenes_return_to_their_first_state(kind):
    for frames in (16, 32):
        for scene in scenes(kind, count=3, cyclic=True, num_frames=frames):
            state = simulate(scene, 2 * frames, FPS)
            for values in (state.positions, state.rotations, state.eyes, state.views):
                np.testing.assert_allclose(values[frames:], values[:frames], atol=1e-9)
            clip = render(scene, num_frames=frames + 1, height=32, width=32)
            assert np.abs(clip.frames[0].astype(int) - clip.frames[-1]).max() <= 1
            assert np.abs(clip.frames[0].astype(int) - clip.frames[frames // 3]).max() > 20


def test_rotations_and_views_are_rotations():
    for scene in scenes(count=20):
        state = simulate(scene, 9, FPS)
        for matrices in (state.rotations, state.views):
            products = matrices @ np.swapaxes(matrices, -1, -2)
            np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-12)
            np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-12)


def test_everything_is_deterministic():
    for seed in range(5):
        (a,), (b,) = scenes(count=1, seed=seed), scenes(count=1, seed=seed)
        assert a == b
        assert np.array_equal(render(a, **SMALL).frames, render(b, **SMALL).frames)
        assert short_caption(a, np.random.default_rng(1)) == short_caption(b, np.random.default_rng(1))


def repainted(scene, k):
    """The same scene with body k in another colour."""
    body = scene.bodies[k]
    colour = "red" if body.colour != "red" else "blue"
    bodies = [replace(body, colour=colour) if i == k else other for i, other in enumerate(scene.bodies)]
    return replace(scene, bodies=tuple(bodies))


def test_boxes_hold_exactly_the_pixels_of_their_object():
    for scene in scenes(count=20, seed=2):
        clip = render(scene, **SMALL)
        for k in range(len(scene.objects)):
            other = render(repainted(scene, k), **SMALL).frames
            changed = np.abs(clip.frames.astype(int) - other).max(-1) > 0
            for f in range(SMALL["num_frames"]):
                left, top, right, bottom = clip.boxes[f, k].astype(int)
                inside = changed[f, top:bottom, left:right]
                assert inside.sum() == changed[f].sum()
                if clip.visible[f, k] > 0.99:
                    assert inside.any(0).all()
                    assert inside.any(1).all()


def test_visibility_tells_when_an_object_is_hidden():
    for scene in scenes("hide"):
        visible = render(scene, num_frames=33, height=48, width=48).visible
        assert visible[0, 0] > 0.8
        assert visible[-1, 0] > 0.8
        assert visible[16, 0] == 0, "in the middle of the clip the wall hides it wholly"
        assert visible[16, 1] == pytest.approx(1)


def test_near_bodies_cover_far_ones():
    near = Body(shape="cube", colour="red", size=0.6, position=(0.0, 0.6, -0.8))
    far = Body(shape="ball", colour="blue", size=0.5, position=(0.0, 0.5, 1.0))
    for bodies in ((near, far), (far, near)):
        clip = render(Scene(kind="still", bodies=bodies), num_frames=1, height=64, width=64)
        assert clip.visible[0, bodies.index(near)] == pytest.approx(1)
        assert clip.visible[0, bodies.index(far)] < 0.3


@pytest.mark.parametrize(("height", "width", "frames"), [(64, 96, 17), (96, 64, 1), (32, 32, 33)])
def test_any_size_and_aspect(height, width, frames):
    for scene in scenes(count=4, aspect=width / height, num_frames=frames):
        clip = render(scene, num_frames=frames, height=height, width=width)
        assert clip.frames.shape == (frames, height, width, 3)
        assert clip.visible[0].max() > 0.8, "something can be seen in the first frame"


def test_objects_are_large_enough_for_a_small_model():
    for scene in scenes(count=60, num_frames=17):
        clip = render(scene, num_frames=17, height=64, width=64)
        whole = clip.boxes[clip.visible > 0.99]
        sides = np.maximum(whole[:, 2] - whole[:, 0], whole[:, 3] - whole[:, 1]) / 64
        assert sides.min() > 0.1
        assert sides.max() < 0.6


def test_training_never_sees_a_held_out_combination_and_the_test_split_always_does():
    assert 0.05 < np.mean([is_held_out(c, s, k) for c in COLOURS for s in words.SHAPE_WORDS for k in KINDS]) < 0.2
    assert {kind for _, _, kind in held_out_combinations()} == set(KINDS)
    for held_out in (False, True):
        for scene in scenes(count=300, held_out=held_out):
            assert any(is_held_out(b.colour, b.shape, scene.kind) for b in scene.objects) == held_out


@pytest.mark.parametrize("kind", KINDS)
def test_captions_name_every_object_and_the_direction(kind):
    rng = np.random.default_rng(0)
    for scene in scenes(kind, count=25):
        for caption in (short_caption(scene, rng), detailed_caption(scene, rng), caption_held_out(scene, rng)):
            for body in scene.objects:
                colours = {body.colour, *words.COLOUR_WORDS[body.colour], *words.COLOUR_WORDS_HELD_OUT[body.colour]}
                assert any(word in caption.lower() for word in colours), (caption, body)
                names = {*words.SHAPE_WORDS[body.shape], *words.SHAPE_WORDS_HELD_OUT[body.shape]}
                assert any(word in caption for word in names), (caption, body)
            if scene.direction:
                assert "left" in caption or "right" in caption
            assert "{" not in caption
        assert 2 < len(short_caption(scene, rng).split()) < 32
        assert 25 <= len(detailed_caption(scene, rng).split()) <= 75


def test_the_wordings_for_tests_are_not_those_of_training():
    used = {t for templates in words.TEMPLATES.values() for t in templates}
    kept = {t for templates in words.TEMPLATES_HELD_OUT.values() for t in templates}
    assert not used & kept
    for colour, kept_words in words.COLOUR_WORDS_HELD_OUT.items():
        assert not set(kept_words) & {colour, *words.COLOUR_WORDS[colour]}
    assert min(len(templates) for templates in words.TEMPLATES.values()) >= 8
    assert set(words.TEMPLATES) == set(words.TEMPLATES_HELD_OUT)


def test_walls_have_no_colour_of_an_object():
    assert not set(WALL_COLOURS) & set(COLOURS)


def test_bad_requests_say_what_to_do():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="one of bounce"):
        sample_scene(rng, kind="explode")
    with pytest.raises(ValueError, match="multiple of 4"):
        sample_scene(rng, cyclic=True, num_frames=33)
    with pytest.raises(ValueError, match="16 x 16"):
        render(sample_scene(rng), num_frames=1, height=8, width=64)
    with pytest.raises(ValueError, match="at least 1 frame"):
        simulate(sample_scene(rng), 0, 12.0)
