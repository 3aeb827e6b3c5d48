"""Each blueprint in the real host: listed by it, and its one node, with what it needs at its sockets, makes a video."""

import pytest

from comfyui_spacetime.models.files import read_json
from comfyui_spacetime.tools.blueprints import BLUEPRINTS, FOLDER

GIVEN = {
    "IMAGE": ("LoadImage", ["toy_red_cube.png"]),
    "VIDEO": ("LoadVideo", ["toy_bouncing_ball.mp4"]),
}
FEW = {"KSampler.steps": 2}
SMALL = {
    "loop_text": {"SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48},
    "train_on_your_clips": {
        "SpacetimeTrainVAE.steps": 2,
        "SpacetimeTrainDiT.steps": 2,
        "SpacetimeTrainVAE.name": "blueprint_vae",
        "SpacetimeTrainDiT.name": "blueprint_dit",
    },
}


def workflow_around(content):
    """The blueprint's node with a loader at each socket and Save Video after it."""
    (node,) = content["nodes"]
    nodes, links = [node], []
    for at, slot in enumerate(node["inputs"]):
        kind, values = GIVEN[slot["type"]]
        key = 10 + at
        slot["link"] = key
        links.append([key, key, 0, node["id"], at, slot["type"]])
        output = {"name": slot["type"], "type": slot["type"], "links": [key]}
        nodes.append(plain(key, kind, values, [], [output]))
    node["outputs"][0]["links"] = [90]
    links.append([90, node["id"], 0, 90, 0, "VIDEO"])
    settings = ["blueprint", "auto", "auto"]
    nodes.append(plain(90, "SaveVideo", settings, [{"name": "video", "type": "VIDEO", "link": 90}], []))
    return {**content, "nodes": nodes, "links": links, "last_node_id": 90, "last_link_id": 90}


def plain(key, kind, values, inputs, outputs):
    place = {"pos": [0, 0], "size": [200, 100], "flags": {}, "order": 0, "mode": 0, "properties": {}}
    return {"id": key, "type": kind, "inputs": inputs, "outputs": outputs, "widgets_values": values, **place}


@pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=lambda one: one.workflow)
def test_a_blueprint_is_offered_and_makes_a_video(host, blueprint):
    offered = host.client.get_json("/global_subgraphs")
    assert blueprint.name in [one["name"] for one in offered.values()]
    content = workflow_around(read_json(FOLDER / f"{blueprint.name}.json"))
    result = host.run(content, set={**FEW, **SMALL.get(blueprint.workflow, {})})
    (file,) = [one for one in result.files() if one["filename"].startswith("blueprint")]
    assert len(host.client.fetch(file)) > 1000
