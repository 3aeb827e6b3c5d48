"""Our conversion of editor files gives what the frontend's own graphToPrompt gives."""

import json
from pathlib import Path

from comfyui_spacetime.tools.widgets import input_specs
from comfyui_spacetime.tools.workflow import to_prompt

SUBGRAPH = "0f8b0e0a-1111-4222-8333-444455556666"


def node(key, kind, inputs=(), values=None, outputs=("IMAGE",), **more):
    slots = [
        {"name": one[0], "type": one[1], "link": one[2], **({"widget": {"name": one[0]}} if len(one) > 3 else {})}
        for one in inputs
    ]
    return {
        "id": key,
        "type": kind,
        "pos": [key * 250, 0],
        "size": [200, 100],
        "flags": {},
        "order": key,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs],
        "properties": {},
        "widgets_values": values or [],
        **more,
    }


def slot_id(number):
    """An id of the form that the editor insists on."""
    return f"5a5a5a5a-0000-4000-8000-{number:012d}"


def workflow():
    """Every shape that a file can have: a subgraph twice, reroute, primitive, bypass, mute, note, seed control."""
    blur = [("image", "IMAGE", 31), ("blur_radius", "INT", 32, "w"), ("sigma", "FLOAT", None, "w")]
    inside = {
        "id": SUBGRAPH,
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": 40, "lastLinkId": 40, "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": "Blurred",
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 100]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 100]},
        "inputs": [
            {"id": slot_id(1), "name": "image", "type": "IMAGE", "linkIds": [31], "pos": [0, 0]},
            {"id": slot_id(2), "name": "blur_radius", "type": "INT", "linkIds": [32], "pos": [0, 9]},
        ],
        "outputs": [{"id": slot_id(3), "name": "IMAGE", "type": "IMAGE", "linkIds": [33], "pos": [0, 0]}],
        "widgets": [],
        "nodes": [node(30, "ImageBlur", blur, [3, 2.5])],
        "groups": [],
        "links": [
            {"id": 31, "origin_id": -10, "origin_slot": 0, "target_id": 30, "target_slot": 0, "type": "IMAGE"},
            {"id": 32, "origin_id": -10, "origin_slot": 1, "target_id": 30, "target_slot": 1, "type": "INT"},
            {"id": 33, "origin_id": 30, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"},
        ],
        "extra": {},
    }
    promoted = {"proxyWidgets": [["-1", "blur_radius"]]}
    instance = [("image", "IMAGE", 5), ("blur_radius", "INT", None, "w")]
    second = [("image", "IMAGE", 6), ("blur_radius", "INT", None, "w")]
    nodes = [
        node(1, "PrimitiveNode", values=[96, "fixed"], outputs=["INT"]),
        node(2, "EmptyImage", [("width", "INT", 1, "w")], [64, 48, 2, 255]),
        node(3, "Reroute", [("", "*", 2)], outputs=["*"]),
        node(4, "ImageInvert", [("image", "IMAGE", 3)], mode=4),
        node(5, SUBGRAPH, instance, [7], properties=promoted),
        node(6, SUBGRAPH, second, [9], properties=promoted),
        node(7, "ImageBatch", [("image1", "IMAGE", 7), ("image2", "IMAGE", 8)]),
        node(8, "EmptyImage", values=[64, 48, 2, 255], mode=2),
        node(9, "SaveImage", [("images", "IMAGE", 9)], ["made"], []),
        node(10, "Note", values=["remember"], outputs=[]),
        node(11, "RandomNoise", values=[1234, "randomize"], outputs=["NOISE"]),
        node(12, "ImageBatch", [("image1", "IMAGE", 10), ("image2", "IMAGE", 11)]),
        node(13, "PreviewImage", [("images", "IMAGE", 12)], outputs=[]),
    ]
    links = [
        [1, 1, 0, 2, 0, "INT"],
        [2, 2, 0, 3, 0, "IMAGE"],
        [3, 3, 0, 4, 0, "IMAGE"],
        [5, 4, 0, 5, 0, "IMAGE"],
        [6, 5, 0, 6, 0, "IMAGE"],
        [7, 5, 0, 7, 0, "IMAGE"],
        [8, 6, 0, 7, 1, "IMAGE"],
        [9, 7, 0, 9, 0, "IMAGE"],
        [10, 7, 0, 12, 0, "IMAGE"],
        [11, 8, 0, 12, 1, "IMAGE"],
        [12, 12, 0, 13, 0, "IMAGE"],
    ]
    for link in links:
        origin = next(one for one in nodes if one["id"] == link[1])
        origin["outputs"][0]["links"].append(link[0])
    return {
        "last_node_id": 40,
        "last_link_id": 40,
        "nodes": nodes,
        "links": links,
        "groups": [],
        "definitions": {"subgraphs": [inside]},
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def bare(prompt, objects):
    """What the server reads of a prompt: no titles, and no fields that only scripts of the frontend add."""
    return {
        key: {
            "class_type": one["class_type"],
            "inputs": {name: v for name, v in one["inputs"].items() if name in input_specs(objects[one["class_type"]])},
        }
        for key, one in prompt.items()
    }


def test_the_conversion_equals_the_frontends(classic_editor, host):
    classic_editor.load(workflow())
    objects = host.client.object_info()
    theirs = bare(classic_editor.prompt(), objects)
    assert set(theirs) >= {"2", "5:30", "6:30", "7", "9", "11"}
    assert theirs["5:30"]["inputs"]["blur_radius"] == 7
    assert bare(to_prompt(workflow(), objects), objects) == theirs
    # and what the editor saves again converts to the same
    saved = classic_editor.page.evaluate("app.graph.serialize()")
    assert bare(to_prompt(saved, objects), objects) == theirs


def test_every_workflow_of_the_pack_converts_as_the_frontend_does(classic_editor, host):
    objects = host.client.object_info()
    for path in sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if host.client.lacking(content):
            continue
        classic_editor.load(content)
        ours, theirs = to_prompt(content, objects), classic_editor.prompt()
        assert bare(ours, objects) == bare(theirs, objects), path.name


def test_the_editor_runs_a_workflow(editor):
    simple = {
        "last_node_id": 3,
        "last_link_id": 2,
        "nodes": [
            node(1, "EmptyImage", values=[64, 48, 2, 255]),
            node(2, "PreviewImage", [("images", "IMAGE", 1)], outputs=[]),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }
    simple["nodes"][0]["outputs"][0]["links"] = [1]
    editor.load(simple)
    editor.page.wait_for_function(
        "(vue) => (document.querySelectorAll('[data-node-id]').length > 0) === vue", arg=editor.vue
    )
    editor.press_run()
    assert len(editor.outputs()["2"]["images"]) == 2
