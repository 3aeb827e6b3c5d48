"""After a run each task node shows what is known, patch by patch: the mask in its output, as the model will cut it.

The tasks and what they are given come from the registry, so the next one is tried without being named.
"""

import base64
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from .test_what_latents_carry import CASES, clip_with, latents_in, objects, perform, samples_itself

__all__ = ["objects"]
KEY = "spacetime_patches"
PAGES = Path(__file__).resolve().parents[2] / "web" / "docs"


def is_task(case: Any) -> bool:
    node = case[0]
    return node.define_schema().category == "Spacetime/tasks" and not samples_itself(case)


TASKS = [one for one in CASES if is_task(one.values[0])]


def by_hand(mask: Tensor, patch: tuple[int, int, int]) -> list[int]:
    """The mean of each patch's cells inside the clip, as bytes, one by one."""
    levels = mask[0, 0]
    for axis, side in enumerate(patch):
        levels = torch.stack([part.mean(axis) for part in levels.split(side, axis)], axis)
    return [round(255 * float(level)) for level in levels.flatten()]


@pytest.fixture
def outputs(monkeypatch):
    """What the nodes gave, with what they show."""
    from comfyui_spacetime.nodes.tasks.base import Task

    seen = []
    own = Task.completed.__func__
    monkeypatch.setattr(
        Task, "completed", classmethod(lambda cls, out, given: seen.append(own(cls, out, given)) or seen[-1])
    )
    return seen


@pytest.mark.parametrize("case", TASKS)
def test_what_a_task_shows_is_the_mask_that_it_gives(objects, one_thread, outputs, case):
    from comfyui_spacetime.nodes.host.latent import mask_of

    perform(case, clip_with(2), objects)
    (latent,) = latents_in(case[0], outputs[-1])
    mask = mask_of(latent)
    (shown,) = outputs[-1].ui[KEY]
    assert shown["grids"] == [[mask.shape[2], mask.shape[3] // 2, mask.shape[4] // 2]]
    levels = list(base64.b64decode(shown["levels"]))
    assert levels == pytest.approx(by_hand(mask, (1, 2, 2)), abs=1)
    assert [level == 0 for level in levels] == [level == 0 for level in by_hand(mask, (1, 2, 2))]


def test_the_tasks_are_those_that_show_it():
    if not TASKS:
        pytest.skip("ComfyUI has not been fetched: python3 run.py setup")
    from comfyui_spacetime.nodes.tasks.base import Task

    shown = {case.values[0][0] for case in TASKS}
    assert shown == set(Task.__subclasses__())
    pages = [PAGES / f"{node.define_schema().node_id}.md" for node in shown]
    assert all("(guides/patches.md)" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 2, 2), (2, 2, 4)])
def test_a_patch_over_the_edge_counts_with_what_lies_inside(comfy_host, patch):
    from comfyui_spacetime.nodes.looking import levels_shown

    mask = torch.rand(1, 1, 5, 7, 9, generator=torch.manual_seed(0))
    (shown,) = levels_shown(mask, patch)[KEY]
    assert shown["grids"] == [[-(-size // side) for size, side in zip((5, 7, 9), patch, strict=True)]]
    assert list(base64.b64decode(shown["levels"])) == pytest.approx(by_hand(mask, patch), abs=1)


def test_too_many_patches_are_not_shown(comfy_host):
    from comfyui_spacetime.nodes.looking import MOST, levels_shown

    assert levels_shown(torch.zeros(1, 1, 1, 256, MOST // 256), (1, 1, 1))
    assert levels_shown(torch.zeros(1, 1, 1, 256, MOST // 256 + 1), (1, 1, 1)) == {}
