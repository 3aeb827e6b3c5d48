"""A second pass: clips enlarged as latents, schedules cut, predictions in tiles that leave no seams."""

import pytest
import torch

from comfyui_spacetime.models.tasks.canvas import Canvas
from comfyui_spacetime.models.tasks.second_pass import enlarge, in_time, sigmas_from
from comfyui_spacetime.models.tasks.tiles import Tiling, in_tiles, taken, weight_of


def clip(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 4, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("scale", "size"), [(1.0, (6, 8)), (1.5, (10, 12)), (2.0, (12, 16)), (1.3, (8, 10))])
def test_a_clip_grows_to_whole_patches_and_may_change_everywhere(scale, size):
    made = enlarge(clip(3, 6, 8), scale)
    assert made.latents.shape[2:] == (3, *size)
    assert bool((made.change == 1).all())


@pytest.mark.parametrize("slower", [1, 2, 3])
def test_the_first_latent_stays_one_and_the_others_multiply(slower):
    whole = clip(5, 2, 2)
    made = in_time(whole, slower)
    assert made.shape[2] == 1 + 4 * slower
    assert torch.equal(made[:, :, :1], whole[:, :, :1])
    ramp = torch.arange(5.0).reshape(1, 1, 5, 1, 1)
    rising = in_time(ramp, slower)[0, 0, :, 0, 0]
    assert bool((rising.diff() >= 0).all())
    assert torch.allclose(rising[1:].mean(), torch.tensor(2.5))


def test_a_loop_grows_round_the_circle():
    loop = clip(4, 2, 2)
    rolled = in_time(loop.roll(1, 2), 2, cyclic=True)
    assert torch.allclose(in_time(loop, 2, cyclic=True).roll(2, 2), rolled)
    made = enlarge(Canvas.of(loop).__class__(loop, torch.zeros(1, 1, 4, 2, 2), cyclic=True), slower=2)
    assert made.cyclic
    assert made.latents.shape[2] == 8


def test_a_region_is_all_that_may_change():
    region = torch.zeros(1, 1, 3, 4, 4)
    region[..., :2] = 1
    made = enlarge(clip(3, 4, 4), 2.0, 2, region)
    assert bool((made.change[..., :4] == 1).all())
    assert not made.change[..., 4:].any()
    with pytest.raises(ValueError, match="the mask is empty"):
        enlarge(clip(3, 4, 4), 2.0, 1, torch.zeros(1, 1, 3, 4, 4))


@pytest.mark.parametrize(("scale", "slower"), [(0.5, 1), (9.0, 1), (1.0, 0)])
def test_what_is_no_size_is_refused(scale, slower):
    with pytest.raises(ValueError, match="use 1 to 8"):
        enlarge(clip(3, 4, 4), scale, slower)


def test_a_schedule_begins_at_the_strength():
    whole = torch.tensor([1.0, 0.8, 0.6, 0.3, 0.0])
    assert torch.equal(sigmas_from(whole, 0.5), torch.tensor([0.5, 0.3, 0.0]))
    assert torch.equal(sigmas_from(whole, 0.6), torch.tensor([0.6, 0.3, 0.0]))
    assert torch.equal(sigmas_from(whole, 1.0), whole)
    for wrong, strength, sentence in (
        (whole, 0.0, "must lie above 0"),
        (whole * 14, 0.5, "needs a flow model"),
        (torch.tensor([0.4, 0.0]), 0.5, "no way down from 0.5"),
        (torch.tensor([1.0, 0.7]), 0.5, "no way down from 0.5"),
    ):
        with pytest.raises(ValueError, match=sentence):
            sigmas_from(wrong, strength)


SHAPES = [(5, 8, 12), (1, 6, 6), (9, 20, 14), (3, 34, 6)]
TILINGS = [
    Tiling(size=size, overlap=overlap) for size in ((5, 6, 6), (3, 8, 4), (4, 4, 4)) for overlap in (0.0, 0.25, 0.5)
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tiling", TILINGS, ids=str)
def test_tiles_cover_everything_begin_at_patches_and_are_no_larger(shape, tiling):
    covered = torch.zeros(shape)
    parts = tiling.parts(shape)
    for part in parts:
        taken(covered, part).add_(1)
        assert all(start % side == 0 for (start, _), side in zip(part, tiling.patch, strict=True))
        assert all(length <= size for (_, length), size in zip(part, tiling.largest((1, 1, *shape))[2:], strict=True))
        assert bool((weight_of(part, parts) > 0).all())
    assert bool((covered >= 1).all())
    if tiling.overlap and len(parts) > 1:
        assert bool((covered > 1).any())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tiling", TILINGS, ids=str)
def test_what_depends_on_each_place_alone_comes_out_as_without_tiles(shape, tiling):
    x = clip(*shape)
    made = in_tiles(x, tiling, lambda tile, _: tile.sin() * 2)
    assert torch.allclose(made, x.sin() * 2, atol=1e-5)


def test_where_tiles_differ_they_fade_into_each_other():
    """Each tile is of one value of its own: no step between places is as large as that between tiles side by side."""
    tiling, x = Tiling(size=(1, 8, 8), overlap=0.5), torch.zeros(1, 1, 1, 8, 20)
    values = iter(range(100))
    made = in_tiles(x, tiling, lambda tile, _: torch.full_like(tile, float(next(values))))
    steps = made[0, 0, 0, 0].diff().abs()
    assert 0 < steps.max() < 0.5
    values, side_by_side = iter(range(100)), Tiling(size=(1, 8, 10), overlap=0.0)
    hard = in_tiles(x, side_by_side, lambda tile, _: torch.full_like(tile, float(next(values))))
    assert hard[0, 0, 0, 0].diff().abs().max() == 1


def test_a_video_that_fits_a_tile_is_predicted_as_it_is():
    x, seen = clip(2, 4, 4), []
    in_tiles(x, Tiling(size=(2, 4, 4), overlap=0.25), lambda tile, _: seen.append(tile) or tile)
    assert seen[0] is x


def test_tiles_that_are_none_are_refused():
    for size, overlap in (((0, 4, 4), 0.2), ((2, 4, 4), 0.6), ((2, 4, 4), -0.1)):
        with pytest.raises(ValueError, match="tiles"):
            Tiling(size=size, overlap=overlap)
