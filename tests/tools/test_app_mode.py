"""What app mode of newer editors shows of a workflow: settings that are there, in a sensible order, and results."""

from typing import Any

import pytest

from comfyui_spacetime.models.files import read_json
from comfyui_spacetime.tools.app_mode import FOLDER, MOST, linked, selection, with_selection

WORKFLOWS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_holds_what_the_command_writes(path):
    workflow = read_json(path)
    assert with_selection(workflow) == workflow, "run.py blueprints"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_it_is_in_the_form_that_newer_editors_read(path):
    """linearData of frontends 1.42 and later: [node, setting] pairs and nodes, all of them ids of the workflow."""
    workflow = read_json(path)
    saves = [node for node in workflow["nodes"] if node["type"] in ("SaveVideo", "SaveImage")]
    assert ("linearData" in workflow["extra"]) == bool(saves)
    if not saves:
        return
    told, ids = workflow["extra"]["linearData"], {str(node["id"]) for node in workflow["nodes"]}
    assert workflow["extra"]["linearMode"] is False, "it opens as a graph"
    assert set(told) == {"inputs", "outputs"}
    assert 1 <= len(told["inputs"]) <= MOST
    assert all(node in ids and isinstance(setting, str) for node, setting in told["inputs"])
    assert set(told["outputs"]) <= ids
    assert len({tuple(one) for one in told["inputs"]}) == len(told["inputs"])


def test_what_a_prompt_is_needed_for_asks_for_it_before_steps():
    order = [setting for _, setting in selection(read_json(FOLDER / "text_to_video_ksampler.json"))["inputs"]]
    assert order.index("text") < order.index("seconds") < order.index("steps") < order.index("seed")


def test_what_comes_over_a_link_is_not_asked_for():
    node: dict[str, Any] = {"id": 1, "type": "KSampler", "pos": [0, 0]}
    node["inputs"] = [{"name": "seed", "widget": {"name": "seed"}, "link": 4}, {"name": "model", "link": 3}]
    save = {"id": 2, "type": "SaveVideo", "pos": [1, 0]}
    assert linked(node) == {"seed"}
    assert selection({"nodes": [node, save]}) == {"inputs": [["1", "steps"], ["1", "cfg"]], "outputs": ["2"]}
