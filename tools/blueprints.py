"""The blueprints in subgraphs/, made of the workflows: `run.py blueprints`. One node with few inputs, which opens.

A blueprint holds a workflow's stages without what loads, saves, measures and explains. What a loader of files gave
comes in at a socket instead, what was saved goes out at one, and some settings are shown on the node.
"""

from __future__ import annotations

import copy
import json
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.files import read_json, write_text
from .environment import ROOT
from .terminal import say

FOLDER = ROOT / "subgraphs"
CATEGORY = "Spacetime"  # where newer editors list blueprints
SPACE = uuid.UUID("5bace000-0000-4000-8000-000000000000")  # of the ids, so that they stay
INSIDE, OUTSIDE = -10, -20  # ids of a subgraph's own inputs and outputs
Graph = dict[str, Any]
RUN = (("KSampler", "steps"), ("KSampler", "cfg"), ("KSampler", "seed"))


@dataclass(frozen=True)
class Blueprint:
    """Which workflow becomes which blueprint.

    says     what it does, for the node search of newer editors
    sockets  title of a loader in the workflow -> (name, type) of the socket that replaces it
    shown    (title of a node, its setting) that stand on the node, in order
    leaves   titles of nodes that are left out
    ends     (title of a node, its output): where the result comes from
    """

    name: str
    workflow: str
    shown: tuple[tuple[str, str], ...]
    says: str
    sockets: dict[str, tuple[str, str]] = field(default_factory=dict)
    leaves: frozenset[str] = frozenset()
    ends: tuple[str, str] = ("SpacetimeVAEDecode", "video")


CLIP = {"LoadVideo": ("video", "VIDEO")}
REPORTS = frozenset({"Measured", "SpacetimeMeasureVideo", "SpacetimeMeasureSeam", "SaveVideo", "About this workflow"})
COMPARED = frozenset({"SpacetimeCompareVideos", "Compared with the source"})
BLUEPRINTS = (
    Blueprint(
        "Animate Image (Spacetime)",
        "animate_image",
        (("Prompt", "text"), ("SpacetimeAnimateImage", "seconds"), *RUN),
        "Makes a video that begins with an image.",
        {"LoadImage": ("image", "IMAGE")},
        REPORTS,
    ),
    Blueprint(
        "Extend (Spacetime)",
        "extend_forward",
        (("Prompt", "text"), ("SpacetimeExtendVideo", "direction"), ("SpacetimeExtendVideo", "seconds"), *RUN),
        "Lets a video go on, or shows what happened before it.",
        CLIP,
        REPORTS,
    ),
    Blueprint(
        "Loop (Spacetime)",
        "loop_text",
        (("Prompt", "text"), *((("SpacetimeEmptyVideo", name)) for name in ("width", "height", "seconds")), *RUN),
        "Makes a video without beginning and end.",
        leaves=REPORTS,
    ),
    Blueprint(
        "Connect (Spacetime)",
        "connect_gap",
        (("Prompt", "text"), ("SpacetimeConnectVideos", "seconds"), *RUN),
        "Leads from one video to another.",
        {"Load Video: first": ("first", "VIDEO"), "Load Video: second": ("second", "VIDEO")},
        REPORTS,
    ),
    Blueprint(
        "Restyle (Spacetime)",
        "restyle",
        (("Prompt", "text"), ("SpacetimeRestyleVideo", "strength"), *RUN),
        "Changes the look of a video and keeps its motion.",
        CLIP,
        REPORTS | COMPARED,
    ),
    Blueprint(
        "Retake (Spacetime)",
        "retake",
        (("Prompt", "text"), ("SpacetimeRetake", "start"), ("SpacetimeRetake", "end"), *RUN),
        "Makes a stretch of a video anew and keeps the rest.",
        CLIP,
        REPORTS | frozenset({"Joins of the retake", "The same frames of the source", "Measured in the source"}),
    ),
    Blueprint(
        "Train On Your Clips (Spacetime)",
        "train_on_your_clips",
        (
            ("SpacetimeClipsFromFolder", "folder"),
            ("SpacetimeTrainVAE", "steps"),
            ("SpacetimeTrainDiT", "steps"),
            ("Prompt", "text"),
            ("KSampler", "seed"),
        ),
        "Trains a VAE and a DiT on a folder of clips, and makes a video with them.",
        leaves=REPORTS,
    ),
)


def title_of(node: Graph) -> str:
    """What a node is called in a workflow: its title, or its type where it has none."""
    return str(node.get("title") or node["type"])


def node_by(graph: Graph, title: str) -> Graph:
    """The node of a title. ValueError where there is none, or more than one."""
    found = [node for node in graph["nodes"] if title_of(node) == title]
    if len(found) != 1:
        raise ValueError(f"the workflow has {len(found)} nodes {title}, and a blueprint needs one: give it a title")
    return dict(found[0])


def made(blueprint: Blueprint, workflow: Graph) -> Graph:
    """The blueprint's file. ValueError where the workflow does not have what it names."""
    graph = copy.deepcopy(workflow)
    outside = {*blueprint.sockets, *blueprint.leaves}
    for title in blueprint.sockets:
        node_by(graph, title)
    gone = {node["id"]: title_of(node) for node in graph["nodes"] if title_of(node) in outside}
    inside = [node for node in graph["nodes"] if node["id"] not in gone]
    links, inputs = _links(blueprint, graph, gone)
    subgraph = _subgraph(blueprint, graph, inside, links, inputs)
    for node in inside:
        _tidy(node, {link["id"] for link in links})
    shown = [[str(node_by(graph, title)["id"]), setting] for title, setting in blueprint.shown]
    return _file(blueprint, subgraph, shown)


def _links(blueprint: Blueprint, graph: Graph, gone: dict[int, str]) -> tuple[list[Graph], list[Graph]]:
    """Links among what stays, and the sockets that loaders become."""
    links: list[Graph] = []
    inputs = [
        {"id": _id(blueprint, f"input {name}"), "name": name, "type": kind, "linkIds": [], "localized_name": name}
        for name, kind in blueprint.sockets.values()
    ]
    order = list(blueprint.sockets)
    for key, origin, slot, target, target_slot, kind in graph["links"]:
        if target in gone:
            continue
        link = {"id": key, "origin_id": origin, "origin_slot": slot, "target_id": target, "target_slot": target_slot}
        if origin in gone:
            socket = order.index(gone[origin])
            inputs[socket]["linkIds"].append(key)
            link.update(origin_id=INSIDE, origin_slot=socket)
        links.append({**link, "type": kind})
    for number, one in enumerate(inputs):
        one["pos"] = [20, 20 * (number + 1)]
    return links, inputs


def _subgraph(
    blueprint: Blueprint, graph: Graph, inside: list[Graph], links: list[Graph], inputs: list[Graph]
) -> Graph:
    title, output = blueprint.ends
    source = node_by(graph, title)
    (slot,) = [index for index, one in enumerate(source["outputs"]) if one["name"] == output]
    kind = source["outputs"][slot]["type"]
    last = max(graph["last_link_id"], *(link["id"] for link in links)) + 1
    end = {"id": last, "origin_id": source["id"], "origin_slot": slot, "target_id": OUTSIDE, "target_slot": 0}
    links.append({**end, "type": kind})
    left, right = min(one["pos"][0] for one in inside), max(one["pos"][0] + one["size"][0] for one in inside)
    top = min(one["pos"][1] for one in inside)
    held = {tuple(one["pos"]) for one in inside}
    return {
        "id": _id(blueprint, "graph"),
        "version": 1,
        "state": {
            "lastGroupId": len(graph["groups"]),
            "lastNodeId": graph["last_node_id"],
            "lastLinkId": last,
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "description": blueprint.says,
        "category": CATEGORY,
        "inputNode": {"id": INSIDE, "bounding": [left - 240, top + 200, 120, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTSIDE, "bounding": [right + 120, top + 200, 120, 60]},
        "inputs": inputs,
        "outputs": [
            {
                "id": _id(blueprint, "output"),
                "name": output,
                "type": kind,
                "linkIds": [last],
                "localized_name": output,
                "pos": [20, 20],
            }
        ],
        "widgets": [],
        "nodes": inside,
        "groups": [group for group in graph["groups"] if any(_holds(group, place) for place in held)],
        "links": links,
        "extra": {},
    }


def _holds(group: Graph, place: Sequence[float]) -> bool:
    left, top, width, height = group["bounding"]
    return bool(left <= place[0] <= left + width and top <= place[1] <= top + height)


def _tidy(node: Graph, links: set[int]) -> None:
    """Slots know only links that are left; seeds are drawn anew by each run."""
    for slot in node.get("inputs", []):
        if slot.get("link") not in links:
            slot["link"] = None
    for slot in node.get("outputs", []):
        slot["links"] = [key for key in slot.get("links") or [] if key in links]
    if node["type"] == "KSampler":
        node["widgets_values"][1] = "randomize"


def _file(blueprint: Blueprint, subgraph: Graph, shown: list[list[str]]) -> Graph:
    slots = ("localized_name", "name", "type")
    inputs = [{**{name: one[name] for name in slots}, "link": None} for one in subgraph["inputs"]]
    outputs = [{**{name: one[name] for name in slots}, "links": []} for one in subgraph["outputs"]]
    node = {
        "id": 1,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [340, 180 + 26 * len(shown)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "title": blueprint.name,
        "properties": {"proxyWidgets": shown},
        "widgets_values": [],
    }
    return {
        "id": _id(blueprint, "file"),
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [subgraph]},
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _id(blueprint: Blueprint, what: str) -> str:
    return str(uuid.uuid5(SPACE, f"{blueprint.name} {what}"))


def text_of(blueprint: Blueprint) -> str:
    """The content of the blueprint's file."""
    workflow = read_json(ROOT / "workflows" / f"{blueprint.workflow}.json")
    return json.dumps(made(blueprint, workflow), ensure_ascii=False, indent=2) + "\n"


def main() -> int:
    """Write all blueprints anew."""
    for blueprint in BLUEPRINTS:
        write_text(FOLDER / f"{blueprint.name}.json", text_of(blueprint))
        say(f"subgraphs/{blueprint.name}.json: of workflows/{blueprint.workflow}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
