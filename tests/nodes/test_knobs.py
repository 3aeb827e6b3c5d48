"""Few knobs at first: what most people never touch is marked, and names are those of the host."""

import json
from pathlib import Path
from typing import Any

import pytest

from comfyui_spacetime.tools.in_process import load_host

MOST = 8  # settings that a node shows at first
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# names that the host has other words for
UNLIKE_THE_HOST = {"numbers", "run_seed", "times", "size"}


def schemas() -> list[Any]:
    if not load_host():
        return []
    from comfyui_spacetime.nodes import load_nodes

    return [pytest.param(node.define_schema(), id=node.__name__) for node in load_nodes()]


SCHEMAS = schemas()


def settings_of(schema: Any) -> list[Any]:
    return [one for one in schema.inputs if one.get_io_type() in WIDGETS and not getattr(one, "force_input", False)]


def is_advanced(one: Any) -> bool:
    return bool(one.as_dict().get("advanced"))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_node_shows_few_settings_at_first(schema):
    shown = [one.id for one in settings_of(schema) if not is_advanced(one)]
    assert len(shown) <= MOST, "mark what most people never touch, with `rarely` of schema()"


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_editor_is_told(schema):
    """In the description that it reads, whatever release of the host makes it."""
    told = schema.get_v1_info(None) if hasattr(schema, "get_v1_info") else None
    if told is None:
        pytest.skip("this host describes nodes in another way")
    inputs = {**told.input.get("required", {}), **told.input.get("optional", {})}
    for one in settings_of(schema):
        assert inputs[one.id][1].get("advanced", False) == is_advanced(one)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_shown_has_the_words_of_the_host(schema):
    named = {one.display_name or one.id for one in schema.inputs}
    assert not named & UNLIKE_THE_HOST


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_rate_that_the_clip_says_itself_is_not_asked_for(schema):
    """`fps` of a node that takes a clip is 0, which is what the clip says, and rarely touched."""
    kinds = {one.get_io_type() for one in schema.inputs}
    for one in schema.inputs:
        if one.id == "fps" and kinds & {"LATENT", "SPACETIME_TOKENS"}:
            assert (one.default, one.min, is_advanced(one)) == (0.0, 0.0, True)


def test_blueprints_show_no_advanced_settings(comfy_host):
    """Newer editors would hide them on the blueprint's node too."""
    hidden = {(case.values[0].node_id, one.id) for case in SCHEMAS for one in case.values[0].inputs if is_advanced(one)}
    for path in sorted((Path(__file__).resolve().parents[2] / "subgraphs").glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        inner = {str(node["id"]): node["type"] for graph in file["definitions"]["subgraphs"] for node in graph["nodes"]}
        shown = {(inner[key], name) for node in file["nodes"] for key, name in node["properties"]["proxyWidgets"]}
        assert shown, path.name
        assert not shown & hidden, path.name


def test_what_app_mode_shows_are_settings_of_their_nodes(comfy_host):
    import nodes as core
    from comfyui_spacetime.models.files import read_json
    from comfyui_spacetime.nodes import load_nodes
    from comfyui_spacetime.tools.app_mode import FOLDER

    ours = {node.define_schema().node_id: {one.id for one in node.define_schema().inputs} for node in load_nodes()}
    for path in sorted(FOLDER.glob("*.json")):
        workflow = read_json(path)
        kinds = {str(node["id"]): node["type"] for node in workflow["nodes"]}
        for node, setting in workflow["extra"].get("linearData", {}).get("inputs", []):
            there = ours.get(kinds[node])
            if there is None and kinds[node] in core.NODE_CLASS_MAPPINGS:
                types = core.NODE_CLASS_MAPPINGS[kinds[node]].INPUT_TYPES()
                there = {*types.get("required", {}), *types.get("optional", {})}
            assert there is None or setting in there, (path.name, kinds[node], setting)
