"""What the app mode of newer editors shows of a workflow: the settings to fill in, in order, and the results.

It stands in the workflow's `extra` as `linearData`, which older editors hand on unread. `run.py blueprints` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..models.files import read_json, write_text
from . import blueprints
from .blueprints import title_of
from .environment import ROOT
from .origins import with_origins
from .terminal import say

FOLDER = ROOT / "workflows"
MOST = 9  # settings of a workflow; more is no app
Graph = dict[str, Any]
# title or type of a node, and its settings: first what comes in, then what is to happen, then how
ASKED = (
    ("LoadImage", ("image",)),
    ("LoadVideo", ("file",)),
    ("SpacetimeClipsFromFolder", ("folder",)),
    ("Prompt", ("text",)),
    ("SpacetimeExpandCaption", ("prompt",)),
    ("SpacetimePromptOverTime", ("prompts",)),
    ("SpacetimeGuidanceOverTime", ("scales",)),
    ("SpacetimeGenerateOnCluster", ("prompts", "seeds")),
    ("SpacetimeClassLabel", ("label",)),
    ("SpacetimeEmptyVideo", ("width", "height", "seconds")),
    ("SpacetimeAnimateImage", ("seconds",)),
    ("SpacetimeExtendVideo", ("direction", "seconds")),
    ("SpacetimeExtendFar", ("seconds", "prompts")),
    ("SpacetimeStreamVideo", ("seconds", "prompts")),
    ("SpacetimeConnectVideos", ("seconds",)),
    ("SpacetimeLoopVideo", ("seconds",)),
    ("SpacetimeRestyleVideo", ("strength",)),
    ("SpacetimeRetake", ("start", "end")),
    ("SpacetimeOutpaint", ("left", "top", "right", "bottom")),
    ("SpacetimeSecondPass", ("scale", "strength")),
    ("SpacetimeExploreSeeds", ("seeds",)),
    ("SpacetimePickRuns", ("pick",)),
    ("SpacetimeTrainVAE", ("steps",)),
    ("SpacetimeTrainDiT", ("steps",)),
    ("SpacetimeScheduler", ("steps",)),
    ("SpacetimeGuider", ("cfg",)),
    ("KSampler", ("steps", "cfg", "seed")),
    ("RandomNoise", ("noise_seed",)),
)
OURS = ("linearData", "linearMode")
RESULTS = ("SaveVideo", "SaveImage")


def selection(workflow: Graph) -> Graph | None:
    """`linearData` of a workflow: [node, setting] in order, and the nodes of results. None where nothing is saved."""
    nodes = sorted(workflow["nodes"], key=lambda node: (node["pos"][0], node["pos"][1], node["id"]))
    results = [str(node["id"]) for node in nodes if node["type"] in RESULTS and node.get("mode", 0) == 0]
    asked = [
        [str(node["id"]), setting]
        for wanted, settings in ASKED
        for node in nodes
        if wanted in (title_of(node), node["type"]) and node.get("mode", 0) == 0
        for setting in settings
        if setting not in linked(node)
    ]
    return {"inputs": asked[:MOST], "outputs": results} if asked and results else None


def linked(node: Graph) -> set[str]:
    """The settings of a node that come over a link, and are not to be filled in."""
    return {slot["name"] for slot in node.get("inputs", []) if "widget" in slot and slot.get("link") is not None}


def with_selection(workflow: Graph) -> Graph:
    """The workflow with its `linearData`; it still opens as a graph."""
    extra = {
        name: value for name, value in workflow.get("extra", {}).items() if name not in ("linearData", "linearMode")
    }
    chosen = selection(workflow)
    if chosen is not None:
        extra |= {"linearMode": False, "linearData": chosen}
    return {**workflow, "extra": extra}


def write_all() -> list[Path]:
    """Bring all workflows up to date, and the blueprints that are made of none; say which have changed."""
    changed = []
    made_of_workflows = {f"{blueprint.name}.json" for blueprint in blueprints.BLUEPRINTS}
    alone = [path for path in sorted(blueprints.FOLDER.glob("*.json")) if path.name not in made_of_workflows]
    for path in [*sorted(FOLDER.glob("*.json")), *alone]:
        workflow = read_json(path)
        made = with_origins(with_selection(workflow) if path.parent == FOLDER else workflow)
        if made != workflow:
            write_text(path, json.dumps(made, ensure_ascii=False, indent=2) + "\n")
            changed.append(path)
    return changed


def main() -> int:
    """Write what app mode shows of each workflow and where its nodes come from, then the blueprints."""
    for path in write_all():
        say(f"{path.parent.name}/{path.name}: what app mode shows, or where nodes come from, has changed")
    return blueprints.main()
