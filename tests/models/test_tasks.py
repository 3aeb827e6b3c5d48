"""Tasks keep what they promise to keep; levels between 0 and 1 mean what their name says; bad input gets a sentence."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.tasks import along_time, in_space
from comfyui_spacetime.models.tasks.canvas import Canvas
from comfyui_spacetime.models.tasks.levels import LEVELS, as_levels, open_places, seen_change
from comfyui_spacetime.models.tasks.statistics import match_statistics, slerp, statistics


def clip(num_latents: int = 5, *, seed: int = 0, height: int = 4, width: int = 6) -> Tensor:
    return torch.randn(1, 16, num_latents, height, width, generator=torch.Generator().manual_seed(seed))


def kept_per_frame(canvas: Canvas) -> list[float]:
    return [round(float(level), 4) for level in canvas.change.amax(dim=(0, 1, 3, 4))]


# -- along time -----------------------------------------------------------------------------------------------------


def test_animate_puts_stills_at_their_places():
    first, last = clip(1, seed=1), clip(1, seed=2)
    canvas = along_time.animate([first, last], [0, -1], 5)
    assert kept_per_frame(canvas) == [0, 1, 1, 1, 0]
    assert torch.equal(canvas.latents[:, :, :1], first)
    assert torch.equal(canvas.latents[:, :, -1:], last)
    assert not canvas.latents[:, :, 1:-1].any()


def test_extend_forward_keeps_all_and_backward_all_but_the_first_latent():
    known = clip(5)
    forward = along_time.extend(known, after=3)
    assert kept_per_frame(forward) == [0] * 5 + [1] * 3
    assert torch.equal(forward.latents[:, :, :5], known)
    both = along_time.extend(known, before=2, after=1)
    assert kept_per_frame(both) == [1, 1, 0, 0, 0, 0, 1]
    assert torch.equal(both.latents[:, :, 2:6], known[:, :, 1:])


def test_connect_by_a_gap():
    first, second = clip(3, seed=1), clip(4, seed=2)
    canvas = along_time.connect_gap(first, second, 2)
    assert kept_per_frame(canvas) == [0, 0, 0, 1, 1, 0, 0, 0]
    assert torch.equal(canvas.latents[:, :, :3], first)
    assert torch.equal(canvas.latents[:, :, 5:], second[:, :, 1:])


def test_connect_by_a_blend_frees_the_middle_most_and_ends_in_the_clips():
    first, second = clip(5, seed=1), clip(5, seed=2)
    canvas = along_time.connect_blend(first, second, 3, strength=0.8)
    weight = 0.25**2 * (3 - 0.5)
    side = round(0.8 * 4 * weight * (1 - weight), 4)
    assert kept_per_frame(canvas) == [0, 0, side, 0.8, side, 0]
    assert torch.equal(canvas.latents[:, :, :2], first[:, :, :2])
    assert torch.equal(canvas.latents[:, :, -1:], second[:, :, -1:])
    distance = [float((canvas.latents[:, :, 2 + i] - first[:, :, 2 + i]).norm()) for i in range(3)]
    assert distance == sorted(distance)


def test_a_blend_takes_what_lies_between_from_outside():
    first, second, between = clip(5, seed=1), clip(5, seed=2), clip(3, seed=3)
    canvas = along_time.connect_blend(first, second, 3, between=between)
    assert torch.equal(canvas.latents[:, :, 2:5], between)
    with pytest.raises(ValueError, match="do not fit 2"):
        along_time.connect_blend(first, second, 2, between=between)


@pytest.mark.parametrize(("frames", "before", "after"), [(1, 0, 0), (1, 2, 3), (4, 0, 2), (6, 3, 0)])
def test_a_cross_fade_keeps_the_rest_and_never_steps_back(frames, before, after):
    first, second = torch.zeros(before + frames, 2, 2, 3), torch.ones(frames + after, 2, 2, 3)
    made = along_time.cross_fade(first, second, frames)
    assert made.shape == (before + frames + after, 2, 2, 3)
    assert not made[:before].any()
    assert bool((made[before + frames :] == 1).all())
    steps = torch.cat([torch.zeros(1), made[:, 0, 0, 0], torch.ones(1)]).diff()
    assert bool((steps >= 0).all())
    assert torch.allclose(made[before : before + frames, 0, 0, 0], 1 - made[before : before + frames, 0, 0, 0].flip(0))
    assert float(made[before, 0, 0, 0]) <= 1 / (frames + 1) + 1e-6  # no faster at its ends than a straight ramp


def test_a_loop_from_a_clip_starts_with_its_second_latent():
    known = clip(5)
    canvas = along_time.loop_clip(known, 3)
    assert canvas.cyclic
    assert kept_per_frame(canvas) == [0, 0, 0, 0, 1, 1, 1]
    assert torch.equal(canvas.latents[:, :, :4], known[:, :, 1:])


@pytest.mark.parametrize("length", [2, 9, 13, 16])
def test_shifts_visit_every_position(length):
    assert {along_time.loop_shift(step, length) for step in range(length)} == set(range(length))
    assert along_time.loop_shift(3, 13, skip=6) == 18 % 13


# -- in space ---------------------------------------------------------------------------------------------------------


def test_restyle_in_a_region_and_a_time_range():
    region = torch.zeros(1, 1, 5, 4, 6)
    region[..., :3] = 1
    canvas = in_space.restyle(clip(5), 0.6, region, start=1, stop=4)
    assert kept_per_frame(canvas) == [0, 0.6, 0.6, 0.6, 0]
    assert not canvas.change[..., 3:].any()


def test_outpaint_surrounds_the_clip():
    known = clip(3)
    canvas = in_space.outpaint(known, left=2, right=4, bottom=2)
    assert canvas.latents.shape[-2:] == (6, 12)
    assert torch.equal(canvas.latents[..., :4, 2:8], known)
    assert not canvas.change[..., :4, 2:8].any()
    assert float(canvas.change.sum()) == 3 * (6 * 12 - 4 * 6)
    softer = in_space.outpaint(known, left=2, overlap=1)
    assert softer.change[0, 0, 0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_one_pixel_frees_its_whole_patch_and_no_other():
    latents = clip(3, height=4, width=6)
    mask = torch.zeros(9, 32, 48)
    mask[6, 17, 40] = 1  # frame 6 lies in latent 2, row 17 in patch 1, column 40 in patch 2
    region = in_space.region_of_pixels(mask, latents, 4)
    expected = torch.zeros(1, 1, 3, 4, 6)
    expected[0, 0, 2, 2:4, 4:6] = 1
    assert torch.equal(region, expected)
    assert torch.equal(in_space.region_of_pixels(mask[6:7], latents, 4)[0, 0], expected[0, 0, 2].expand(3, -1, -1))


def test_a_mask_of_another_resolution_covers_the_same_part():
    latents = clip(2, height=6, width=6)
    mask = torch.zeros(1, 100, 100)
    mask[:, 70:, :] = 1
    region = in_space.region_of_pixels(mask, latents, 4)
    assert region[0, 0, 0, :, 0].tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("source", "latents"), [((360, 640), (44, 80)), ((64, 79), (8, 8)), ((79, 79), (8, 8)), ((719, 1279), (22, 39))]
)
def test_a_mask_of_the_source_s_size_is_cropped_as_the_video_was(source, latents):
    """Encoding keeps the middle in whole patches; the last case is a VAE of 32 pixels per latent."""
    pixels = source[0] // latents[0] // 8 * 8
    top, left = ((size - pixels * count) // 2 for size, count in zip(source, latents, strict=True))
    mask = torch.zeros(1, *source)
    mask[:, top + pixels * 2 : top + pixels * 4, left : left + pixels * 2] = 1
    expected = torch.zeros(latents)
    expected[2:4, :2] = 1
    region = in_space.region_of_pixels(mask, torch.zeros(1, 4, 1, *latents), 4)
    assert torch.equal(region[0, 0, 0], expected)


def test_a_mask_over_a_loop_has_a_frame_for_each_of_its_frames():
    loop = along_time.loop_new(clip(3))
    mask = torch.zeros(12, 32, 48)
    mask[4, 0, 0] = 1
    assert in_space.region_of_pixels(mask, loop, 4).amax(dim=(0, 1, 3, 4)).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="11 frames for a video of 12"):
        in_space.region_of_pixels(mask[1:], loop, 4)


# -- levels -----------------------------------------------------------------------------------------------------------

SIGMA = torch.tensor([0.8])
HALF = torch.tensor([[0.0, 0.4, 0.6, 1.0]])


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("sigma", [1.0, 0.7, 0.3, 0.01])
def test_zero_and_one_mean_the_same_everywhere(levels, sigma):
    ends, at = torch.tensor([[0.0, 1.0]]), torch.tensor([sigma])
    assert torch.equal(seen_change(ends, at, levels), ends)
    assert torch.equal(open_places(ends, at, levels), ends)


def test_levels_as_published():
    assert torch.allclose(SIGMA * seen_change(HALF, SIGMA, "scale"), torch.tensor([[0, 0.32, 0.48, 0.8]]))
    assert torch.allclose(SIGMA * seen_change(HALF, SIGMA, "clamp"), torch.tensor([[0, 0.4, 0.6, 0.8]]))
    assert torch.allclose(SIGMA * seen_change(HALF, SIGMA, "gate"), torch.tensor([[0, 0, 0, 0.8]]))
    assert torch.allclose(SIGMA * seen_change(HALF, SIGMA, "binary"), torch.tensor([[0, 0, 0.8, 0.8]]))
    lower = torch.tensor([0.5])
    assert open_places(HALF, lower, "gate").tolist() == [[0, 0, 1, 1]]
    assert open_places(HALF, lower, "clamp").tolist() == [[0, 0, 1, 1]]
    assert open_places(torch.tensor([0.6]), torch.tensor([0.6]), "gate").item() == 1


@pytest.mark.parametrize("levels", ["clamp", "gate"])
def test_a_waiting_place_opens_as_its_reference_noised_to_its_level(levels):
    """SDEdit: whatever the model says while it waits, at sigma = m the state is (1 - m) x reference + m x noise."""
    generator = torch.Generator().manual_seed(0)
    reference, noise = torch.randn(2, 1, 4, generator=generator)
    change = torch.full((1, 4), 0.5)
    x, sigmas = noise.clone(), torch.linspace(1, 0.5, 6)
    for sigma, following in pairwise(sigmas):
        share = open_places(change, sigma[None], levels)
        denoised = share * 100.0 + (1 - share) * reference
        x = x + (x - denoised) / sigma * (following - sigma)
        seen = reference + seen_change(change, following[None], levels) * (x - reference)
        if levels == "clamp":  # the model sees it noised to its own level throughout
            assert torch.allclose(seen, 0.5 * reference + 0.5 * noise, atol=1e-5)
    assert torch.allclose(x, 0.5 * reference + 0.5 * noise, atol=1e-5)


@pytest.mark.parametrize(
    ("levels", "reached"),
    [
        ("gate", [0.43, 0.72, 0.87, 0.97]),
        ("clamp", [0.43, 0.72, 0.87, 0.97]),
        ("scale", [0.0, 0.02, 0.11, 0.51]),
        ("binary", [0.0, 1.0, 1.0, 1.0]),
    ],
)
def test_how_far_content_goes_towards_what_a_perfect_model_wants(levels, reached):
    """Content 0, data N(1, 0.3^2) with its exact denoiser, 100 steps: the table on the page of Change Levels."""
    sigmas = torch.linspace(1, 0, 101)
    sigmas = 3 * sigmas / (1 + 2 * sigmas)
    change = torch.tensor([0.3, 0.5, 0.7, 0.9])[None, :, None]
    x = torch.randn(1, 4, 4000, generator=torch.Generator().manual_seed(0))
    for sigma, following in pairwise(sigmas):
        seen = seen_change(change, sigma[None], levels)
        state, level = seen * x, seen * sigma
        variance = (0.3 * (1 - level)) ** 2 + level**2
        wanted = 1 + (1 - level) * 0.3**2 / variance * (state - (1 - level))
        x = x + (x - open_places(change, sigma[None], levels) * wanted) / sigma * (following - sigma)
    assert x.mean(dim=-1)[0].tolist() == pytest.approx(reached, abs=0.02)


# -- helpers ----------------------------------------------------------------------------------------------------------


def test_slerp_keeps_the_length_and_reaches_both_ends():
    a, b = clip(1, seed=1), clip(1, seed=2)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    for weight in (0.0, 0.3, 0.5, 1.0):
        between = slerp(a, b, torch.tensor(weight))
        assert torch.allclose(between.norm(dim=1), torch.ones_like(between[:, 0]), atol=1e-5)
    assert torch.allclose(slerp(a, b, torch.tensor(0.0)), a, atol=1e-6)
    assert torch.allclose(slerp(a, b, torch.tensor(1.0)), b, atol=1e-6)
    assert torch.allclose(slerp(a, a, torch.tensor(0.5)), a, atol=1e-6)
    assert torch.isfinite(slerp(a, -a, torch.tensor(0.5))).all()


def test_statistics_can_be_handed_over():
    mean, std = statistics(clip(5, seed=3) * 2 + 1)
    moved = statistics(match_statistics(clip(4, seed=4), mean, std))
    assert torch.allclose(moved[0], mean, atol=1e-5)
    assert torch.allclose(moved[1], std, atol=1e-5)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: along_time.animate([clip(1)] * 3, [0, 1, 2], 2), "3 known frames do not fit a video of 2"),
        (lambda: along_time.animate([clip(1)], [5], 5), "position 5 lies outside"),
        (lambda: along_time.animate([clip(1)] * 2, [4, -1], 5), "two stills share latent 4"),
        (lambda: along_time.animate([clip(2)], [0], 5), "single latents"),
        (lambda: along_time.extend(clip(3)), "must be above 0"),
        (lambda: along_time.extend(clip(1), before=2), "too short to extend backward"),
        (lambda: along_time.connect_gap(clip(3), clip(3), 0), "a gap of 0"),
        (lambda: along_time.connect_gap(clip(3), clip(3, width=8), 2), "same size"),
        (lambda: along_time.connect_blend(clip(3), clip(3), 3), "use 1 to 2"),
        (lambda: along_time.cross_fade(torch.zeros(3, 1, 1, 3), torch.zeros(4, 1, 1, 3), 4), "use 1 to 3"),
        (lambda: along_time.connect_blend(clip(3), clip(3), 1, 1.5), "between 0 and 1"),
        (lambda: along_time.loop_new(clip(1)), "a loop of 1 latent"),
        (lambda: along_time.loop_clip(clip(3), 0), "a gap of 0"),
        (lambda: along_time.loop_clip(clip(1), 3), "too short to loop"),
        (lambda: in_space.restyle(clip(3), 0.0), "changes nothing"),
        (lambda: in_space.restyle(clip(3), math.nan), "between 0 and 1"),
        (lambda: in_space.restyle(clip(3), 0.5, start=2, stop=2), "no time range"),
        (lambda: in_space.restyle(clip(3), 0.5, torch.ones(1, 1, 3, 2, 2)), "does not cover"),
        (lambda: along_time.retake(clip(3), 2, 2), "no stretch"),
        (lambda: along_time.retake(clip(3), 1, 4), "no stretch"),
        (lambda: along_time.retake(clip(3), 0, 1, torch.zeros(1, 1, 3, 4, 6)), "the mask is empty in this stretch"),
        (lambda: in_space.fill(clip(3), torch.zeros(1, 1, 3, 4, 6)), "empty"),
        (lambda: in_space.outpaint(clip(3)), "must be above 0"),
        (lambda: in_space.outpaint(clip(3), left=2, overlap=2), "leaves nothing"),
        (lambda: as_levels("half"), "unknown meaning"),
        (lambda: in_space.region_of_pixels(torch.ones(5, 8, 8), clip(3), 4), "5 frames for a video of 9"),
        (lambda: in_space.region_of_pixels(torch.ones(8, 8), clip(3), 4), r"\(frames, height, width\)"),
    ],
)
def test_bad_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
