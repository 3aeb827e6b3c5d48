"""What is painted is what runs: the map of Paint Levels, at the patches of the clip."""

import pytest
import torch

from comfyui_spacetime.models.tasks.painting import LevelMap

pytestmark = pytest.mark.usefixtures("comfy_host")


@pytest.fixture(autouse=True)
def said(monkeypatch) -> list[str]:
    from comfyui_spacetime.nodes.host import messages

    texts: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: texts.append(text))
    return texts


@pytest.mark.parametrize(("channels", "cells"), [(16, (3, 2, 3)), (128, (3, 4, 6))])
def test_each_patch_that_runs_has_the_level_of_its_cell(channels, cells):
    from comfyui_spacetime.nodes.tasks.painting import KEY, PaintLevels
    from comfyui_spacetime.nodes.tokens import Patchify

    levels = bytes(range(5, 5 + cells[0] * cells[1] * cells[2]))
    clip = {"samples": torch.randn(1, channels, 3, 4, 6)}
    out = PaintLevels.execute(clip, LevelMap(cells, levels).text())
    side = 2 if channels == 16 else 1
    (tokens,) = Patchify.execute(out.result[0], 1, side, side).result
    assert [round(100 * level) for level in tokens.patch_change.flatten().tolist()] == list(levels)
    assert out.ui[KEY] == [{"size": list(cells)}], "the painter then has the clip's own cells"


def test_nothing_painted_and_levels_between_are_said(said):
    from comfyui_spacetime.nodes.tasks.painting import PaintLevels

    clip = {"samples": torch.randn(1, 16, 3, 4, 6)}
    PaintLevels.execute(clip, "")
    assert "nothing is painted" in said[-1]
    PaintLevels.execute(clip, LevelMap((1, 1, 2), b"\x64\x00").text())
    assert said[-1] == "50% of the clip may change"
    PaintLevels.execute(clip, LevelMap((1, 1, 2), b"\x3c\x00").text())
    assert "Change Levels" in said[-1]
    with pytest.raises(ValueError, match="paint it anew"):
        PaintLevels.execute(clip, "{}")
