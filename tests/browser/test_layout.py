"""No node of a template covers another one, in either way of drawing, inside of subgraphs too."""

import json
from pathlib import Path

import pytest

from comfyui_spacetime.tools.layout import overlaps
from comfyui_spacetime.tools.pictures.rooms import boxes_in, graphs

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "workflows").glob("*.json")), *sorted((ROOT / "subgraphs").glob("*.json"))]


def test_every_workflow_has_room_for_its_nodes(editor, host):
    covered = []
    for path in FILES:
        workflow = json.loads(path.read_text(encoding="utf-8"))
        if host.client.lacking(workflow):
            continue
        for graph in graphs(workflow):
            boxes = boxes_in(editor, workflow, graph, vue=editor.vue)
            kinds = {node["id"]: node["type"] for node in graph["nodes"]}
            covered += [f"{path.stem}: {kinds[a]} and {kinds[b]}" for a, b in overlaps(boxes)]
    assert not covered
