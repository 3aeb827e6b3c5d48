"""Blueprints say what the workflows say: they are made of them by one command."""

import pytest

from comfyui_spacetime.models.files import read_json
from comfyui_spacetime.tools.blueprints import BLUEPRINTS, CATEGORY, FOLDER, INSIDE, OUTSIDE, made, text_of


@pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=lambda one: one.workflow)
def test_the_file_is_what_the_command_makes_of_the_workflow(blueprint):
    stale = f"run.py blueprints: {blueprint.workflow} has changed"
    assert (FOLDER / f"{blueprint.name}.json").read_text(encoding="utf-8") == text_of(blueprint), stale


@pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=lambda one: one.workflow)
def test_every_link_ends_where_it_says(blueprint):
    content = read_json(FOLDER / f"{blueprint.name}.json")
    (graph,) = content["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    for link in graph["links"]:
        origin = graph["inputs"] if link["origin_id"] == INSIDE else nodes[link["origin_id"]]["outputs"]
        target = graph["outputs"] if link["target_id"] == OUTSIDE else nodes[link["target_id"]]["inputs"]
        assert {*origin[link["origin_slot"]]["type"].split(",")} & {*link["type"].split(",")}
        slot = target[link["target_slot"]]
        assert link["id"] in slot["linkIds"] if link["target_id"] == OUTSIDE else slot["link"] == link["id"]
    known = {link["id"] for link in graph["links"]}
    assert all(slot["link"] in {*known, None} for node in nodes.values() for slot in node["inputs"])
    (node,) = content["nodes"]
    assert {int(key) for key, _ in node["properties"]["proxyWidgets"]} <= nodes.keys()
    assert 2 <= len(node["properties"]["proxyWidgets"]) <= 8


def test_a_workflow_without_what_is_named_is_refused():
    blueprint = BLUEPRINTS[0]
    with pytest.raises(ValueError, match="has 0 nodes LoadImage"):
        made(blueprint, {"nodes": [], "links": [], "groups": [], "last_link_id": 0, "last_node_id": 0})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_newer_editors_list_it_with_what_it_does(path):
    (graph,) = read_json(path)["definitions"]["subgraphs"]
    assert graph["category"] == CATEGORY
    assert graph["description"].endswith(".")
    assert len(graph["description"]) > 20
