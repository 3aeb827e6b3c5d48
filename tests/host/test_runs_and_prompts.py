"""Workflows about runs as values and prompts in time, in the real ComfyUI, each with what it promises."""

from pathlib import Path

import av
import numpy as np
import pytest

from comfyui_spacetime.tools.terminal import Trouble

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
SMALL = {"SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48, "SpacetimeEmptyVideo.seconds": 0.75}
PROMPTS = "2.prompts"
FEW = {**SMALL, "KSampler.steps": 2, "10.scales": "0: 3"}


def frames_of(host, result) -> np.ndarray:
    """The one video that a run saved."""
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def blueness(frames: np.ndarray) -> float:
    """How much more blue than red there is in what is coloured strongly, in levels of 255."""
    pixels = frames.astype(np.float32)[:, frames.shape[1] // 3 :]  # without the sky
    coloured = pixels.max(axis=-1) - pixels.min(axis=-1) > 70
    assert coloured.any()
    return float((pixels[..., 2] - pixels[..., 0])[coloured].mean())


def test_the_colour_changes_when_the_prompt_says_so(host):
    """The workflow as it ships: red until 1.4 s, blue from there on."""
    frames = frames_of(host, host.run(WORKFLOWS / "prompt_over_time.json"))
    assert blueness(frames[:12]) < -70
    assert blueness(frames[21:]) > blueness(frames[:12]) + 100


def test_one_prompt_over_all_times_is_an_ordinary_prompt(host):
    workflow = WORKFLOWS / "prompt_over_time.json"
    whole = host.frames(workflow, {**FEW, PROMPTS: "0: a red ball\n0.4: a red ball"})
    plain = host.client.prompt_of(workflow)
    plain["2"] = {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a red ball", "clip": plain["2"]["inputs"]["clip"]},
    }
    assert whole == host.frames(plain, FEW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({PROMPTS: "a red ball"}, "not a time and a value"),
        ({PROMPTS: "0: a\n9: b"}, "lies beyond the video"),
        ({"10.scales": "2: 3"}, "lies beyond the video"),
    ],
)
def test_bad_input_is_one_sentence_on_the_node(host, change, message):
    with pytest.raises(Trouble, match=message):
        host.run(WORKFLOWS / "prompt_over_time.json", set={**FEW, **change})


EXPLORE = {**SMALL, "SpacetimeScheduler.steps": 4, "60.steps": 2, "60.seeds": 3}


def test_a_picked_seed_is_finished_as_the_whole_run_of_it(host):
    """The second of three seeds, and the same by one step node that makes all steps."""
    workflow = WORKFLOWS / "explore_seeds.json"
    chosen = {**EXPLORE, "61.pick": "2"}
    picked = host.run(workflow, set=chosen)
    assert [file["filename"].rpartition(".")[2] for file in picked.outputs["60"]["images"]] == ["webp"]
    plain = host.client.prompt_of(workflow)
    tokens, noise, sigmas = (plain["60"]["inputs"][name] for name in ("tokens", "noise", "sigmas"))
    begin = {"tokens": tokens, "noise": noise, "sigmas": sigmas}
    plain["60"] = {"class_type": "SpacetimeForwardDiffusion", "inputs": begin}
    plain["40"]["inputs"]["tokens"] = ["60", 0]
    del plain["61"]
    small = {key: value for key, value in EXPLORE.items() if not key.startswith("60.")}
    seed = host.client.prompt_of(workflow)["7"]["inputs"]["noise_seed"]
    assert host.frames(workflow, chosen) == host.frames(plain, {**small, "7.noise_seed": seed + 1})


def test_with_nothing_picked_the_sheet_is_all_there_is(host):
    result = host.run(WORKFLOWS / "explore_seeds.json", set={**EXPLORE, "61.pick": ""})
    assert not [one for one in result.files() if one["type"] == "output"]
    assert "3 runs at step 2 of 4" in result.outputs["60"]["text"][0]
    with pytest.raises(Trouble, match="write numbers from 1 to 3"):
        host.run(WORKFLOWS / "explore_seeds.json", set={**EXPLORE, "61.pick": "4"})


def test_a_second_pass_is_larger_and_may_have_more_frames(host):
    few = {**SMALL, "KSampler.steps": 2, "SpacetimeScheduler.steps": 3}
    workflow = WORKFLOWS / "second_pass.json"
    assert frames_of(host, host.run(workflow, set=few)).shape == (9, 80, 96, 3)  # 4.5 patches high are 5
    assert frames_of(host, host.run(workflow, set={**few, "21.frame_rate": 2, "21.scale": 1.0})).shape == (
        17,
        48,
        64,
        3,
    )
    with pytest.raises(Trouble, match="has no way down from"):
        host.run(workflow, set={**few, "SpacetimeScheduler.denoise": 0.3})
