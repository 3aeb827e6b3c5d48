"""Which pack, in which version, each node of a workflow comes from: `cnr_id` and `ver` of its properties.

Editors write both when they save. Where a node is missing they look its pack up by them, in the registry that knows
packs by such ids. `run.py blueprints` writes them into all workflows and blueprints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..models.files import read_text
from .environment import ROOT
from .terminal import Trouble
from .workflow import VIRTUAL, needed_release

CORE = "comfy-core"
OURS = "Spacetime"  # how the types of our nodes begin
FIELDS = {
    "name": re.compile(r'^name = "([^"]+)"', re.M),
    "version": re.compile(r'^version = "([^"]+)"', re.M),
    "host": re.compile(r'^requires-comfyui = ">=([^"]+)"', re.M),
}
Graph = dict[str, Any]


def declared() -> dict[str, str]:
    """What pyproject.toml says: the pack's name and version, and the oldest release of ComfyUI for it (`host`)."""
    text = read_text(ROOT / "pyproject.toml")
    found = {field: pattern.search(text) for field, pattern in FIELDS.items()}
    if lacking := [field for field, match in found.items() if match is None]:
        raise Trouble(f"pyproject.toml does not say {', '.join(lacking)}: write it as `{FIELDS[lacking[0]].pattern}`.")
    return {field: match[1] for field, match in found.items() if match}


def graphs_of(workflow: Graph) -> Iterator[Graph]:
    """The graph of a workflow and those of its subgraphs."""
    yield workflow
    yield from workflow.get("definitions", {}).get("subgraphs", [])


def origin(kind: str, pack: dict[str, str], host: str) -> dict[str, str]:
    """Pack and version of a type of node; none for what the editor alone knows. `host` is core's version."""
    if kind in VIRTUAL:
        return {}
    return {"cnr_id": pack["name"], "ver": pack["version"]} if kind.startswith(OURS) else {"cnr_id": CORE, "ver": host}


def with_origins(workflow: Graph) -> Graph:
    """The workflow with pack and version at each node; core's is the oldest release that can run the workflow."""
    pack = declared()
    host = needed_release(workflow) or pack["host"]
    subgraphs = {graph["id"] for graph in graphs_of(workflow) if graph is not workflow}

    def told(graph: Graph) -> Graph:
        nodes = []
        for node in graph["nodes"]:
            others = {key: value for key, value in node.get("properties", {}).items() if key not in ("cnr_id", "ver")}
            own = {} if node["type"] in subgraphs else origin(node["type"], pack, host)
            nodes.append({**node, "properties": {**own, **others}})
        return {**graph, "nodes": nodes}

    result = told(workflow)
    if subgraphs:
        result["definitions"] = {
            **workflow["definitions"],
            "subgraphs": [told(graph) for graph in workflow["definitions"]["subgraphs"]],
        }
    return result
