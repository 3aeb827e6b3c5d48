"""Explore Seeds and Pick Runs: what is finished alone is what a whole run from that seed gives, also through files."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from comfyui_spacetime.models.media.sheet import moving_sheet
from comfyui_spacetime.tools.bench import exactness
from comfyui_spacetime.tools.bench.exactness import cfg_guider, saved_and_loaded, schedule, step
from comfyui_spacetime.tools.bench.tiny_models import latent, model

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
SEED = 41
CASES = Path(__file__).resolve().parents[1] / "data" / "picks.json"


@pytest.fixture
def vae(tiny_objects):
    return tiny_objects[2]


def noise(seed: int):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    return Noise_RandomNoise(seed)


def clean(masked: bool):
    from comfyui_spacetime.nodes.tokens import Patchify

    return Patchify.execute(latent("spacetime", masked=masked), 1, 2, 2).result[0]


def explore(sampler, vae, *, masked: bool = False, seeds: int = 3, steps: int = 2, seed: int = SEED):
    from comfyui_spacetime.nodes.explore import ExploreSeeds

    guider = cfg_guider(model("spacetime"), "spacetime")
    with torch.inference_mode():
        return guider, ExploreSeeds.execute(
            clean(masked), noise(seed), schedule(guider), guider, sampler, vae, seeds, steps, 12.0
        )


def whole(guider, sampler, seed: int, *, masked: bool):
    from comfyui_spacetime.nodes.denoise import ForwardDiffusion

    return step(ForwardDiffusion.execute(clean(masked), noise(seed), schedule(guider)).result[0], guider, sampler, 0)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize(
    "name", ["euler", "dpmpp_2m", "euler_ancestral", "heun", "spacetime unipc", "spacetime euler_sde"]
)
def test_what_is_finished_alone_is_the_whole_run_of_its_seed(vae, name, masked):
    from comfyui_spacetime.nodes.explore import PickRuns

    sampler = exactness.sampler(name)
    guider, found = explore(sampler, vae, masked=masked)
    runs, _, seeds = found.result
    assert seeds == "41, 42, 43"
    (chosen,) = PickRuns.execute(runs, ["3 1"]).result
    for run, seed in zip(chosen, (SEED + 2, SEED), strict=True):
        expected = whole(guider, sampler, seed, masked=masked).values
        assert torch.equal(step(run, guider, sampler, 0).values, expected)
        assert torch.equal(step(saved_and_loaded(run), guider, sampler, 0).values, expected)


def test_the_sheet_moves_and_says_which_is_which(vae):
    import folder_paths

    _, found = explore(exactness.sampler("euler"), vae)
    _, sheet, _ = found.result
    assert sheet.shape[0] == 5
    (shown,) = found.ui["images"]
    with Image.open(f"{folder_paths.get_temp_directory()}/{shown['filename']}") as picture:
        assert picture.is_animated
        assert picture.size == (sheet.shape[2], sheet.shape[1])
    assert "pick by number" in found.ui["text"][0]
    (told,) = found.ui["spacetime_sheet"]
    assert (told["columns"], told["rows"], told["seeds"]) == (2, 2, ["41", "42", "43"])
    assert (told["filename"], told["type"]) == (shown["filename"], "temp")


def test_nothing_picked_runs_nothing(vae):
    from comfy_execution.graph_utils import ExecutionBlocker

    from comfyui_spacetime.nodes.explore import PickRuns

    (nothing,) = PickRuns.execute([clean(masked=False)], [" "]).result
    assert isinstance(nothing, ExecutionBlocker)
    assert nothing.message is None


@pytest.mark.parametrize("pick", ["0", "4", "x", "1-2", "1.0", "-1", "²", "9" * 50, "all 1"])
def test_a_number_that_is_none_is_one_sentence(pick):
    from comfyui_spacetime.nodes.explore import picked

    with pytest.raises(ValueError, match="write numbers from 1 to 3"):
        picked(pick, 3)


@pytest.mark.parametrize(("text", "count", "numbers"), json.loads(CASES.read_text(encoding="utf-8")))
def test_numbers_are_read_as_the_editor_reads_them(text, count, numbers):
    from comfyui_spacetime.nodes.explore import picked

    if numbers is None:
        with pytest.raises(ValueError, match="write numbers from 1 to"):
            picked(text, count)
    else:
        assert picked(text, count) == numbers


def test_numbers_may_be_written_as_one_likes():
    from comfyui_spacetime.nodes.explore import picked

    assert picked("3, 1;1\n2", 3) == [3, 1, 2]
    assert picked("ALL", 3) == [1, 2, 3]
    assert picked("", 3) == []


def test_steps_that_leave_nothing_are_refused(vae):
    with pytest.raises(ValueError, match="leave nothing to finish"):
        explore(exactness.sampler("euler"), vae, steps=50)


def test_seeds_go_on_after_the_largest(vae):
    assert explore(exactness.sampler("euler"), vae, seeds=2, seed=2**64 - 1)[1].result[2] == f"{2**64 - 1}, 0"


def test_a_sheet_keeps_every_frame_of_every_clip():
    clips = [torch.full((2, 10, 20, 3), value) for value in (0.1, 0.5, 0.9)]
    sheet = moving_sheet(clips, ["a", "b", "c"])
    assert sheet.shape[0] == 2
    large = 5  # 20 pixels are narrower than a label
    for value, (row, column) in zip((0.1, 0.5, 0.9), ((0, 0), (0, 1), (1, 0)), strict=True):
        high, wide = sheet.shape[1] // 2, sheet.shape[2] // 2
        tile = sheet[:, row * high : row * high + 10 * large, column * wide : column * wide + 20 * large]
        assert torch.allclose(tile, torch.tensor(value))
    with pytest.raises(ValueError, match="do not fit one sheet"):
        moving_sheet([clips[0], clips[1][:1]], ["a", "b"])
    with pytest.raises(ValueError, match="give each clip a label"):
        moving_sheet(clips, ["a"])
