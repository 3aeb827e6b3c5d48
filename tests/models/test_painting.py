"""A painted map of levels: what is painted is what may change, on any grid, and never less than before."""

import json

import pytest
import torch

from comfyui_spacetime.models.tasks.canvas import Canvas
from comfyui_spacetime.models.tasks.painting import MOST, LevelMap, grid_of, painted, parse_map


def some_map(*size: int) -> LevelMap:
    count = size[0] * size[1] * size[2]
    levels = torch.randint(0, 101, (count,), generator=torch.Generator().manual_seed(count), dtype=torch.uint8)
    return LevelMap(size, levels.numpy().tobytes())


def test_a_map_is_its_text_and_back():
    assert parse_map(some_map(3, 4, 5).text()) == some_map(3, 4, 5)


def test_every_patch_has_the_level_that_was_painted_there():
    levels = some_map(3, 2, 4)
    clip = Canvas.of(torch.randn(2, 16, 3, 4, 8))
    assert grid_of(clip, (1, 2, 2)) == levels.size
    change = painted(clip, levels, (1, 2, 2)).change
    for frame, row, column in torch.cartesian_prod(*map(torch.arange, levels.size)).tolist():
        cell = change[:, 0, frame, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        painted_there = levels.levels[(frame * 2 + row) * 4 + column] / 100
        assert torch.equal(cell, torch.full_like(cell, painted_there))


def test_half_patches_at_the_border_belong_to_the_last_cells():
    change = painted(Canvas.of(torch.randn(1, 16, 1, 3, 5)), some_map(1, 2, 3), (1, 2, 2)).change
    assert change.shape == (1, 1, 1, 3, 5)
    assert bool((change[..., 2, 4] == some_map(1, 2, 3).levels[5] / 100).all())


def test_another_grid_takes_the_cell_over_the_middle():
    levels = LevelMap((2, 1, 2), bytes([0, 100, 50, 25]))
    assert levels.on(4, 1, 2).flatten().tolist() == pytest.approx([0, 1, 0, 1, 0.5, 0.25, 0.5, 0.25])
    assert levels.on(1, 1, 1).flatten().tolist() == pytest.approx([0.25])


def test_what_was_still_to_be_generated_stays_so():
    latents = torch.randn(1, 16, 2, 4, 4)
    given = Canvas(latents, torch.rand(1, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    levels = some_map(2, 2, 2)
    after, alone = painted(given, levels, (1, 2, 2)), painted(Canvas.of(latents), levels, (1, 2, 2))
    assert torch.equal(after.change, torch.maximum(given.change, alone.change))


def test_no_text_is_nothing_painted():
    assert not painted(Canvas.of(torch.randn(1, 16, 2, 4, 4)), parse_map(" "), (1, 2, 2)).change.any()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "{}",
        '{"size": [1, 1, 1]}',
        '{"size": [1, 1], "levels": "AA=="}',
        '{"size": [1, 1, 0], "levels": ""}',
        '{"size": [1, 1, true], "levels": "AA=="}',
        '{"size": [1, 1, 2], "levels": "AA=="}',
        '{"size": [1, 1, 1], "levels": "/w=="}',
        '{"size": [1, 1, 1], "levels": "ä"}',
        '{"size": [1, 1, 1], "levels": 5}',
        json.dumps({"size": [MOST, 2, 1], "levels": ""}),
    ],
)
def test_what_is_no_map_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match="paint it anew"):
        parse_map(text)
