"""Every node in the real host on a pretended GPU: with room for all, for a part of the models, and with --gpu-only."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from comfyui_spacetime.tests.gpu.node_runs import MODES
from comfyui_spacetime.tools.in_process import host_folder

ROOT = Path(__file__).resolve().parents[2]
OWN = {  # what a step waits for beyond the same with core's guider and sampler, at most
    "KSampler": 1,
    "Guider, core's euler": 1,
    "Guider, unipc": 1,
    "Guider cfg_zero_star, unipc": 1,
    "History Guidance, unipc": 1,
    "Denoise Step in one call, unipc": 1,
    "Denoise Step in one call, core's euler": 1,
}
TASKS = {  # the same of nodes that sample by themselves; a call of core's sampler looks whether its latent is empty
    "Stream Video, a call": 1,
    "Stream Video, a latent of one call": 2,  # and its images are fetched
    "Extend Far, a step": 0,
    "Second Pass, a step": 0,
    "Explore Seeds, a step": 1,
}
CALLS = {"Extend Far, a window": 4, "Explore Seeds, a seed": 7}  # beyond a call of core's; a seed is decoded too


@pytest.fixture(scope="module", autouse=True)
def needs_the_host():
    if host_folder() is None:
        pytest.skip("ComfyUI has not been fetched: python3 run.py setup")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process with the GPU in it found, by mode."""
    folder = tmp_path_factory.mktemp("gpu")

    @cache
    def run(mode: str) -> dict[str, Any]:
        out = folder / f"{mode}.json"
        command = [sys.executable, str(ROOT / "tools" / "pack.py"), "tests.gpu.node_runs", mode, str(out)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=540)
        assert out.exists(), done.stderr[-3000:]
        return json.loads(out.read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_refuses_nothing_that_a_node_does(found, mode):
    nodes = found(mode)["nodes"]
    assert not {name: wrong for name, wrong in nodes.items() if wrong}
    assert len(nodes) > 40, "the registry was empty"


@pytest.mark.parametrize("mode", MODES)
def test_nothing_stays_on_the_gpu_once_the_models_have_gone(found, mode):
    """Not one tensor: those of the tiny models would not be noticed by their size."""
    assert found(mode)["left"] == 0


def test_a_step_waits_for_the_gpu_no_more_than_cores_own(found):
    """An editor looks on: the moving strips of these runs were made, and cost no wait."""
    waits = found("normal")["waits"]
    assert found("normal")["strips"] >= 40
    core = waits["core's guider, core's euler"]
    assert {name: waits[name] - core for name, most in OWN.items() if waits[name] - core > most} == {}


def test_nodes_that_sample_by_themselves_wait_no_more_either(found):
    waits, tasks = found("normal")["waits"], found("normal")["tasks"]
    limits = TASKS | {name: waits["core's guider, a call each"] + more for name, more in CALLS.items()}
    assert {name: number for name, number in tasks.items() if number > limits[name]} == {}
    assert tasks.keys() == limits.keys()


def test_cards_without_bf16_compute_in_fp16(found):
    assert found("normal")["dtypes"] == {"7.5": "torch.float16", "8.6": "torch.bfloat16"}


def test_what_changes_a_model_or_a_prompt_makes_no_step_wait(found):
    changes = found("normal")["changes"]
    assert len(changes) > 8, "no node was found that changes one"
    assert {name: number for name, number in changes.items() if number > 0} == {}


def test_a_call_of_single_steps_waits_little_more_than_a_call_of_cores_sampler(found):
    waits = found("normal")["waits"]
    core = waits["core's guider, a call each"]
    assert waits["Denoise Step, a call each, unipc"] - core <= 4
    assert waits["Denoise Step, a call each, core's euler"] - core <= 4
