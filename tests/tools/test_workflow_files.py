"""Damaged workflow files end in one sentence, whatever is damaged; what is still a workflow is converted."""

import copy
import json
import random
import re
from pathlib import Path

import pytest

from comfyui_spacetime.tools.client import load_workflow
from comfyui_spacetime.tools.edits import apply_settings, mirror
from comfyui_spacetime.tools.origins import CORE, declared, graphs_of, with_origins
from comfyui_spacetime.tools.terminal import Trouble
from comfyui_spacetime.tools.workflow import to_prompt

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
ODD = [None, True, 0, -1, 7, 3.5, 10**30, "", "x", "1", "\ud83d", [], {}, [[]], ["1", 0], [None], {"a": 1}, {"name": 3}]


def graph_of(nodes, links=(), **more):
    return {"nodes": nodes, "links": list(links), **more}


def with_subgraph():
    """A workflow with a subgraph, a reroute, a primitive and a bypassed node."""
    slot = {"name": "image", "type": "IMAGE"}
    inner = {"id": 4, "type": "Blur", "inputs": [{**slot, "link": 1}], "outputs": [slot], "widgets_values": [3]}
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    links = [dict(zip(ends, link, strict=True)) for link in ((1, -10, 0, 4, 0), (2, 4, 0, -20, 0))]
    subgraph = {"id": "sub", "inputs": [slot], "outputs": [slot], "nodes": [inner], "links": links}
    shown = {"proxyWidgets": [["-1", "image"]]}
    number = {"name": "n", "type": "INT", "link": 5, "widget": {"name": "n"}}
    nodes = [
        {"id": 1, "type": "Source", "outputs": [slot], "widgets_values": [3, "fixed"]},
        {"id": 2, "type": "Reroute", "inputs": [{**slot, "link": 1}], "outputs": [slot]},
        {"id": 3, "type": "sub", "inputs": [{**slot, "link": 2}], "outputs": [slot], "properties": shown},
        {"id": 5, "type": "Blur", "mode": 4, "inputs": [{**slot, "link": 3}], "outputs": [slot]},
        {"id": 6, "type": "PrimitiveNode", "outputs": [{"name": "INT", "type": "INT"}], "widgets_values": [7, "fixed"]},
        {"id": 7, "type": "Save", "inputs": [{**slot, "link": 4}, number]},
    ]
    chain = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [3, 3, 0, 5, 0, "IMAGE"], [4, 5, 0, 7, 0, "IMAGE"]]
    return graph_of(nodes, [*chain, [5, 6, 0, 7, 1, "INT"]], definitions={"subgraphs": [subgraph]})


def objects_of(workflow):
    """A server that has every node of a workflow, with the inputs that they show."""
    graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
    nodes = [node for graph in graphs for node in graph["nodes"]]
    found = {}
    for node in nodes:
        required = {one["name"]: [one["type"], {}] for one in node.get("inputs") or []}
        found[node["type"]] = {"input": {"required": required}, "output": [], "display_name": node["type"]}
    return found


def places(value, path=()):
    """Every place inside a JSON value, as a path."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def mutated(value, rng):
    """A copy with one place replaced, removed or doubled."""
    value = copy.deepcopy(value)
    *path, last = rng.choice([path for path in places(value) if path])
    inside = value
    for key in path:
        inside = inside[key]
    how = rng.randrange(6)
    if how == 0:
        del inside[last]
    elif how == 1 and isinstance(inside, list):
        inside.insert(last, inside[last])
    else:
        inside[last] = copy.deepcopy(rng.choice(ODD))
    return value


def use(workflow, objects):
    """What `run.py workflow` does with a file before the server sees it. Returns what went wrong, if anything."""
    try:
        prompt = to_prompt(workflow, objects)
        key = next(iter(prompt), None)
        if key is not None:
            apply_settings(prompt, [f"{key}.image=3"], objects)
        mirror(workflow, prompt, objects)
    except Trouble as trouble:
        return str(trouble)
    json.dumps(prompt)
    return ""


@pytest.mark.parametrize("path", [None, *WORKFLOWS], ids=lambda path: path.stem if path else "every kind of part")
def test_mutated_files_are_converted_or_refused_in_a_sentence(path):
    whole = json.loads(path.read_text()) if path else with_subgraph()
    objects, rng = objects_of(whole), random.Random(0)
    assert "damaged" not in use(whole, objects)
    refused = 0
    for _ in range(20 if path else 1500):
        said = use(mutated(whole, rng), objects)
        refused += bool(said)
        assert len(said) < 1500
        assert "\n" not in said
    assert path or refused > 100


def test_mutated_prompts_of_the_api_too():
    whole = to_prompt(with_subgraph(), objects_of(with_subgraph()))
    rng = random.Random(1)
    for _ in range(500):
        use(mutated(whole, rng), objects_of(with_subgraph()))


@pytest.mark.parametrize("mode", [2, 4])
def test_a_node_that_is_not_there_may_be_muted_or_bypassed(mode):
    slot = {"name": "image", "type": "IMAGE"}
    nodes = [
        {"id": 1, "type": "Source", "outputs": [slot]},
        {"id": 2, "type": "NotInstalled", "mode": mode, "inputs": [{**slot, "link": 1}], "outputs": [slot]},
        {"id": 3, "type": "Save", "inputs": [{**slot, "link": 2}]},
    ]
    whole = graph_of(nodes, [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]])
    objects = objects_of(whole)
    del objects["NotInstalled"]
    prompt = to_prompt(whole, objects)
    assert set(prompt) == {"1", "3"}
    assert prompt["3"]["inputs"] == ({"image": ["1", 0]} if mode == 4 else {})
    assert mirror(whole, prompt, objects) is not None
    nodes[1]["mode"] = 0
    with pytest.raises(Trouble, match="NotInstalled"):
        to_prompt(whole, objects)


def test_links_in_a_circle_are_named():
    slot = {"name": "", "type": "*"}
    nodes = [{"id": key, "type": "Reroute", "inputs": [{**slot, "link": key}], "outputs": [slot]} for key in (1, 2)]
    nodes.append({"id": 3, "type": "Save", "inputs": [{"name": "image", "type": "*", "link": 3}]})
    whole = graph_of(nodes, [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 3, 0, "*"]])
    with pytest.raises(Trouble, match="round in a circle"):
        to_prompt(whole, objects_of(whole))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 100_000, "nested"),
        (b'{"nodes": [1,]}', "no JSON"),
        (b"\xef\xbb\xbf{}", ""),
        ('{"a": "ä"}'.encode("utf-16"), ""),
    ],
)
def test_files_that_cannot_be_read(content, sentence, tmp_path):
    path = tmp_path / "workflow.json"
    path.write_bytes(content)
    if not sentence:
        assert isinstance(load_workflow(path), dict)
        return
    with pytest.raises(Trouble, match=sentence) as caught:
        load_workflow(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [*WORKFLOWS, *BLUEPRINTS], ids=lambda path: path.stem)
def test_every_node_says_its_pack_and_version(path):
    """As pyproject.toml has them now; what the editor alone draws, and subgraphs, come from no pack."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert with_origins(whole) == whole, "run.py blueprints: the version, or a workflow's nodes, have changed"
    inside = {one["id"] for one in whole.get("definitions", {}).get("subgraphs", [])}
    pack, needed = declared(), whole["extra"].get("needs_comfyui")
    for node in (node for graph in graphs_of(whole) for node in graph["nodes"]):
        told = (node["properties"].get("cnr_id"), node["properties"].get("ver"))
        if node["type"] in {"MarkdownNote", "Note", "Reroute", "PrimitiveNode", *inside}:
            assert told == (None, None)
        elif node["type"].startswith("Spacetime"):
            assert told == (pack["name"], pack["version"])
        else:
            assert told == (CORE, needed or pack["host"])
        assert told[1] is None or re.fullmatch(r"\d+\.\d+\.\d+", told[1]), "editors refuse a file with another form"


def test_a_node_of_another_version_is_brought_up_to_date_and_keeps_the_rest():
    whole = with_subgraph()
    whole["nodes"][0]["type"] = "SpacetimeScheduler"
    whole["nodes"][0]["properties"] = {"ver": "0.0.1", "cnr_id": "other", "kept": 1}
    told = with_origins(whole)
    pack = declared()
    assert told["nodes"][0]["properties"] == {"cnr_id": pack["name"], "ver": pack["version"], "kept": 1}
    assert told["definitions"]["subgraphs"][0]["nodes"][0]["properties"]["cnr_id"] == CORE
    assert told["nodes"][2]["properties"] == {"proxyWidgets": [["-1", "image"]]}
    assert with_origins(told) == told
