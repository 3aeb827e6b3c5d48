"""Every workflow that was ever shipped still opens: nodes and inputs are there today, values in their order."""

import json
import subprocess
from pathlib import Path

import pytest

from comfyui_spacetime.tools import locales

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("workflows", "subgraphs")
LOG = ("log", "--format=", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=AM", "--", *FOLDERS)


def git(*arguments, given=None):
    """What git says, in bytes; the test is skipped where it says nothing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False, input=given)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("this is not a git checkout")
    return done.stdout


def workflows_of_the_history():
    """(path, blob) -> content, of every version of every workflow file, deleted ones too."""
    listed = git(*LOG).decode().split("\0")
    versions = {head.split()[3]: name for head, name in zip(listed[::2], listed[1::2], strict=False)}
    versions = {blob: name for blob, name in versions.items() if name.endswith(".json")}
    found, data = {}, git("cat-file", "--batch", given="\n".join(versions).encode())
    while data:
        head, _, data = data.partition(b"\n")
        blob, _, size = head.decode().split()
        found[versions[blob], blob[:8]] = json.loads(data[: int(size)])
        data = data[int(size) + 1 :]
    return found


def faults(workflow, known):
    """What a workflow uses of ours that is not there today, or elsewhere: values of widgets go by their order.

    `known`: node id -> (ids of inputs, ids of those with a widget in order, types of outputs).
    """
    graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
    for node in [node for graph in graphs for node in graph["nodes"] if node["type"].startswith("Spacetime")]:
        name = node["type"]
        if name not in known:
            yield f"no node {name}"
            continue
        inputs, widgets, outputs = known[name]
        slots = node.get("inputs") or []
        yield from (f"{name} has no input {slot['name']}" for slot in slots if slot["name"] not in inputs)
        old = [slot["name"] for slot in slots if "widget" in slot or slot["name"] in widgets]
        if old != widgets[: len(old)]:
            yield f"{name} has the widgets {widgets}, and had {old}"
        types = [slot["type"] for slot in node.get("outputs") or []]
        if types != outputs[: len(types)]:
            yield f"{name} gives {outputs}, and gave {types}"


@pytest.fixture(scope="module")
def known(comfy_host):
    from comfy_api.latest import io

    def facts(one):
        ordered = sorted(one.inputs, key=lambda i: bool(i.optional))  # as the host lists them
        widgets = [i.id for i in ordered if isinstance(i, io.WidgetInput) and not i.force_input]
        return [i.id for i in one.inputs], widgets, [o.io_type for o in one.outputs]

    return {one.node_id: facts(one) for one in locales.schemas()}


def test_every_workflow_ever_shipped_finds_its_nodes_and_inputs(known):
    found = workflows_of_the_history()
    present = git("ls-files", "-z", "--", *FOLDERS).decode().split("\0")
    assert {name for name, _ in found} >= {name for name in present if name.endswith(".json")}
    wrong = {name: sorted(set(faults(workflow, known))) for name, workflow in found.items()}
    assert {name: said for name, said in wrong.items() if said} == {}


def test_what_is_gone_would_be_named(known):
    node = {"type": "SpacetimeLoopVideo", "inputs": [{"name": "gone", "widget": {}}], "outputs": [{"type": "AUDIO"}]}
    workflow = {"nodes": [{"type": "SpacetimeGone"}], "definitions": {"subgraphs": [{"nodes": [node]}]}}
    said = list(faults(workflow, known))
    assert said[:2] == ["no node SpacetimeGone", "SpacetimeLoopVideo has no input gone"]
    assert said[2].endswith("and had ['gone']")
    assert said[3].endswith("and gave ['AUDIO']")
