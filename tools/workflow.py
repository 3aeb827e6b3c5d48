"""Turn a workflow as the editor saves it into the prompt that ComfyUI's server runs, without a browser.

Does what the frontend's `graphToPrompt` does (checked against it by a browser test): subgraphs are unfolded into ids
like "23:4", reroutes and primitives disappear, bypassed nodes pass their input on, muted ones vanish with their links.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from .shape import check_graph, check_prompt
from .terminal import Trouble
from .widgets import widget_values

MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20
NOTES = {"Note", "MarkdownNote"}
VIRTUAL = NOTES | {"Reroute", "PrimitiveNode"}
NEEDS = "needs_comfyui"  # in a workflow's extra: the release of ComfyUI without which it cannot run, as X.Y.Z

Prompt = dict[str, dict[str, Any]]


def needed_release(workflow: Any) -> str:
    """The oldest release of ComfyUI that can run a workflow, by what stands in its extra; empty where any can."""
    extra = workflow.get("extra") if isinstance(workflow, dict) else None
    needed = extra.get(NEEDS) if isinstance(extra, dict) else None
    return needed if isinstance(needed, str) else ""


def is_older(version: str, needed: str) -> bool:
    """Whether one release comes before another; one that does not say its version is taken to be new enough."""
    return bool(version) and _numbers(version) < _numbers(needed)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,6}", version)[:3])


def to_prompt(workflow: Any, object_info: dict[str, Any]) -> Prompt:
    """The API prompt of a workflow in either format. `object_info` is what the server says of its nodes."""
    if is_prompt(workflow):
        check_prompt(workflow)
        return dict(workflow)
    if not isinstance(workflow, dict) or not isinstance(workflow.get("nodes"), list):
        raise Trouble("This is no workflow: neither the editor's format (with a list `nodes`) nor the API format.")
    check_graph(workflow)
    try:
        return unfolded(workflow, object_info)
    except RecursionError:
        raise Trouble("The links of this workflow go round in a circle, so nothing in it could run first.") from None


def unfolded(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """The API prompt of a workflow in the editor's format."""
    definitions = {one["id"]: one for one in (workflow.get("definitions") or {}).get("subgraphs") or []}
    root = Graph(workflow, (), None, definitions)
    check_types(root, object_info)
    prompt: Prompt = {}
    for graph in root.walk():
        for node in graph.nodes.values():
            if node["type"] in VIRTUAL or node["type"] in definitions or node.get("mode", 0) in (MUTED, BYPASSED):
                continue
            prompt[graph.path_of(node)] = export(graph, node, object_info)
    for node in prompt.values():
        gone = [name for name, value in node["inputs"].items() if is_link(value) and value[0] not in prompt]
        for name in gone:
            del node["inputs"][name]
    return prompt


def is_prompt(workflow: Any) -> bool:
    """Whether this is already in the API format."""
    nodes = workflow.values() if isinstance(workflow, dict) else ()
    return bool(nodes) and all(isinstance(node, dict) and "class_type" in node for node in nodes)


def is_link(value: Any) -> bool:
    """Whether an input of a prompt is a connection rather than a value."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


@dataclass(frozen=True)
class Link:
    """One connection inside a graph."""

    origin: int
    origin_slot: int
    target: int
    target_slot: int


@dataclass(frozen=True)
class Value:
    """What an input resolved to when it is a plain value (a primitive's, or one set on the subgraph's node)."""

    value: Any


@dataclass
class Graph:
    """A graph, or one instance of a subgraph inside another graph."""

    data: dict[str, Any]
    path: tuple[str, ...]
    parent: "tuple[Graph, dict[str, Any]] | None"
    definitions: dict[str, dict[str, Any]]
    nodes: dict[int, dict[str, Any]] = field(init=False)
    links: dict[int, Link] = field(init=False)
    children: dict[int, "Graph"] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.path) > 20:
            raise Trouble("A subgraph of this workflow contains itself.")
        self.nodes = {node["id"]: node for node in self.data["nodes"]}
        self.links = dict(read_link(link) for link in self.data.get("links") or [] if link is not None)
        self.children = {
            key: Graph(self.definitions[node["type"]], (*self.path, str(key)), (self, node), self.definitions)
            for key, node in self.nodes.items()
            if node["type"] in self.definitions
        }

    def path_of(self, node: dict[str, Any]) -> str:
        """The node's id in the prompt."""
        return ":".join((*self.path, str(node["id"])))

    def walk(self) -> "list[Graph]":
        """This graph and every instance inside it that is neither muted nor bypassed."""
        active = [
            child for key, child in self.children.items() if self.nodes[key].get("mode", 0) not in (MUTED, BYPASSED)
        ]
        return [self, *(graph for child in active for graph in child.walk())]

    def resolve_input(self, node: dict[str, Any], slot: int) -> "list[Any] | Value | None":
        """Where the value of an input comes from: ["id", slot], a plain value, or None when nothing is connected."""
        inputs = node.get("inputs") or []
        if slot >= len(inputs) or inputs[slot].get("link") is None:
            return None
        link = self.links.get(inputs[slot]["link"])
        if link is None:
            raise Trouble(f"Input {inputs[slot]['name']} of node {self.path_of(node)} names a link that is not there.")
        if link.origin == SUBGRAPH_INPUT:
            return self._resolve_outside(link.origin_slot)
        return self._resolve_output(self._origin(link), link.origin_slot, inputs[slot].get("type", "*"))

    def _origin(self, link: Link) -> dict[str, Any]:
        """The node that a link comes from."""
        if link.origin not in self.nodes:
            raise Trouble(f"A link of this workflow comes from node {link.origin}, which is not there.")
        return self.nodes[link.origin]

    def _resolve_outside(self, slot: int) -> "list[Any] | Value | None":
        """An input that comes in through the subgraph's own inputs."""
        if self.parent is None:
            raise Trouble("A link outside of any subgraph comes from a subgraph's input.")
        outer, instance = self.parent
        slots = self.data.get("inputs") or []
        if slot >= len(slots):
            raise Trouble(f"A link inside a subgraph of this workflow comes from its input {slot}, which is not there.")
        name = slots[slot]["name"]
        at = next((i for i, one in enumerate(instance.get("inputs") or []) if one["name"] == name), None)
        if at is not None and instance["inputs"][at].get("link") is not None:
            return outer.resolve_input(instance, at)
        promoted = promoted_values(self, instance)
        return Value(promoted[name]) if name in promoted else None

    def _resolve_output(self, node: dict[str, Any], slot: int, wanted: str) -> "list[Any] | Value | None":
        """Follow an output back to the node that really makes the value."""
        if node.get("mode", 0) == BYPASSED:
            passed_on = bypass_slot(node, slot, wanted)
            return None if passed_on is None else self.resolve_input(node, passed_on)
        if node["type"] == "Reroute":
            return self.resolve_input(node, 0)
        if node["type"] == "PrimitiveNode":
            values = node.get("widgets_values") or []
            return Value(values[0]) if isinstance(values, list) and values else None
        inner = self.children.get(node["id"])
        if inner is None:
            return [self.path_of(node), slot]
        if node.get("mode", 0) == MUTED:
            return None
        for link in inner.links.values():
            if link.target == SUBGRAPH_OUTPUT and link.target_slot == slot:
                if link.origin == SUBGRAPH_INPUT:
                    return inner._resolve_outside(link.origin_slot)
                return inner._resolve_output(inner._origin(link), link.origin_slot, wanted)
        return None


def read_link(link: Any) -> tuple[int, Link]:
    """A link as the editor saves it: a list at the top level, a dictionary inside a subgraph."""
    if isinstance(link, dict):
        return link["id"], Link(link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"])
    return link[0], Link(*link[1:5])


def bypass_slot(node: dict[str, Any], slot: int, wanted: str) -> int | None:
    """Which input a bypassed node hands on: the one beside the output when its type fits, else the first that fits."""
    inputs = node.get("inputs") or []
    outputs = node.get("outputs") or []
    kind = outputs[slot].get("type", wanted) if slot < len(outputs) else wanted
    if wanted in ("*", ""):
        return (slot if slot < len(inputs) else 0) if inputs else None
    if slot < len(inputs) and inputs[slot].get("type") == kind:
        return slot
    exact = [i for i, one in enumerate(inputs) if one.get("type") == wanted]
    loose = [i for i, one in enumerate(inputs) if one.get("type") == "*"]
    return next(iter(exact + loose), None)


def promoted_values(inner: Graph, instance: dict[str, Any]) -> dict[str, Any]:
    """The values that were set on a subgraph's node itself, by input name."""
    slots = inner.data.get("inputs") or []
    names = [one["name"] for slot, one in enumerate(slots) if feeds_widget(inner, slot)]
    saved = instance.get("widgets_values") or []
    if isinstance(saved, dict):
        return {name: saved[name] for name in names if saved.get(name) is not None}
    values = dict(zip(names, saved, strict=False))
    proxies = (instance.get("properties") or {}).get("proxyWidgets") or []
    if proxies:
        # newer files list every shown widget; those of the node itself have the id -1
        own = {proxy[1]: value for proxy, value in zip(proxies, saved, strict=False) if str(proxy[0]) == "-1"}
        values.update({name: value for name, value in own.items() if name in names})
    return {name: value for name, value in values.items() if value is not None}


def feeds_widget(inner: Graph, slot: int) -> bool:
    """Whether an input of a subgraph leads to a widget, so that its value can be set on the outside."""
    for link in inner.links.values():
        if link.origin != SUBGRAPH_INPUT or link.origin_slot != slot or link.target not in inner.nodes:
            continue
        inputs = inner.nodes[link.target].get("inputs") or []
        if link.target_slot < len(inputs) and inputs[link.target_slot].get("widget"):
            return True
    return False


def export(graph: Graph, node: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """One node of the prompt: its widgets' values, overridden by what is connected."""
    info = object_info[node["type"]]
    inputs = {name: as_value(value) for name, value in widget_values(node, info).items()}
    for slot, one in enumerate(node.get("inputs") or []):
        resolved = graph.resolve_input(node, slot)
        if isinstance(resolved, Value):
            inputs[one["name"]] = as_value(resolved.value)
        elif resolved is not None:
            inputs[one["name"]] = resolved
    title = node.get("title") or info.get("display_name") or node["type"]
    return {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}


def as_value(value: Any) -> Any:
    """Lists are wrapped, because a bare list in a prompt means a connection."""
    return {"__value__": value} if isinstance(value, list) else value


def check_types(root: Graph, object_info: dict[str, Any]) -> None:
    """Refuse a workflow with nodes that the server does not have, unless they are muted or bypassed."""
    known = set(object_info) | VIRTUAL | set(root.definitions)
    nodes = (node for graph in root.walk() for node in graph.nodes.values())
    missing = sorted({node["type"] for node in nodes if node.get("mode", 0) not in (MUTED, BYPASSED)} - known)
    if missing:
        raise Trouble(f"This ComfyUI does not have these nodes of the workflow: {', '.join(missing)}.")
