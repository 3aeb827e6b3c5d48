"""The nodes. One module per stage; this file lists them all."""

from __future__ import annotations

import importlib
import logging

from comfy_api.latest import ComfyExtension, io

MODULES = (
    "loaders",
    "latents",
    "tokens",
    "denoise",
    "inspecting",
    "runs",
    "explore",
    "sampling",
    "guidance",
    "prompts",
    "tasks.along_time",
    "tasks.connect",
    "tasks.loops",
    "tasks.in_space",
    "tasks.painting",
    "tasks.long",
    "tasks.stream",
    "tasks.second_pass",
    "packing",
    "measure",
    "compare",
    "probes",
    "words",
    "captioning",
    "classes",
    "clips",
    "train",
    "distill",
    "cluster",
)


def load_nodes() -> list[type[io.ComfyNode]]:
    """The nodes of every module. A module that fails is logged in full and does not take the others down.

    Schemas are tried here too: one that this host cannot read would otherwise cost all nodes.
    """
    nodes: list[type[io.ComfyNode]] = []
    for name in MODULES:
        try:
            found: list[type[io.ComfyNode]] = importlib.import_module(f".{name}", __name__).NODES
            for node in found:
                node.define_schema()
            nodes.extend(found)
        except Exception:  # noqa: PERF203 - each module stands alone
            logging.getLogger(__name__).exception("Spacetime: the nodes of %s are missing because it failed", name)
    return nodes


class SpacetimeExtension(ComfyExtension):
    """What ComfyUI asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of the pipeline; and from now on workflows say what they were made with."""
        from .host import made_with

        made_with.begin()
        return load_nodes()
