"""Whether a workflow file has the shape that the editor gives it, before anything relies on that."""

from typing import Any

from .terminal import Trouble

Kind = type | tuple[type, ...]
ID = (int, str)
LIST, DICT, TEXT, NOTHING = (list,), (dict,), (str,), (type(None),)
# what a part must hold, and what it may hold
NODE = {"id": ID, "type": TEXT}
NODE_MAY = {
    "mode": (int, type(None)),
    "inputs": (list, type(None)),
    "outputs": (list, type(None)),
    "widgets_values": (list, dict, type(None)),
    "properties": (dict, type(None)),
    "title": (str, type(None)),
}
INPUT = {"name": TEXT}
INPUT_MAY = {"type": (str, int), "link": (int, str, type(None)), "widget": (dict, type(None))}
LINK = {"id": ID, "origin_id": ID, "origin_slot": (int,), "target_id": ID, "target_slot": (int,)}
SUBGRAPH = {"id": TEXT, "nodes": LIST}
API_NODE = {"class_type": TEXT, "inputs": DICT}


def check_prompt(prompt: dict[str, Any]) -> None:
    """Refuse a workflow in the API format whose nodes lack what they need, or have it in another type."""
    for key, node in prompt.items():
        where = f"node {key}"
        check(node, API_NODE, {"_meta": (dict, type(None))}, where)
        check(node.get("_meta") or {}, {}, {"title": (str, type(None))}, where)


def check_graph(graph: dict[str, Any], where: str = "") -> None:
    """Refuse a graph in the editor's format that is not as the editor writes it, also in its subgraphs.

    Trouble names the place, what stands there, and what should.
    """
    check(graph, {"nodes": LIST}, {"links": (list, type(None)), "definitions": (dict, type(None))}, where or "it")
    for index, node in enumerate(graph["nodes"]):
        check_node(node, f"{where}node {index + 1} of the list")
    for index, link in enumerate(graph.get("links") or []):
        check_link(link, f"{where}link {index + 1} of the list")
    definitions = graph.get("definitions") or {}
    check(definitions, {}, {"subgraphs": (list, type(None))}, f"{where}definitions")
    for index, one in enumerate(definitions.get("subgraphs") or []):
        name = f"{where}subgraph {index + 1}"
        check(one, SUBGRAPH, {"inputs": (list, type(None)), "outputs": (list, type(None))}, name)
        for slot in (one.get("inputs") or []) + (one.get("outputs") or []):
            check(slot, INPUT, {}, f"{name}, a slot")
        check_graph(one, f"{name}, ")


def check_node(node: Any, where: str) -> None:
    """Refuse a node that is not as the editor writes it."""
    check(node, NODE, NODE_MAY, where)
    for one in node.get("inputs") or []:
        check(one, INPUT, INPUT_MAY, f"{where}, an input")
        check(one.get("widget") or {"name": ""}, INPUT, {}, f"{where}, the widget of an input")
    for one in node.get("outputs") or []:
        check(one, {}, {"type": (str, int)}, f"{where}, an output")
    proxies = (node.get("properties") or {}).get("proxyWidgets")
    expect(proxies, (list, type(None)), f"{where}, proxyWidgets")
    for one in proxies or []:
        expect(one, LIST, f"{where}, proxyWidgets")
        if len(one) < 2 or not all(isinstance(part, str | int) for part in one[:2]):
            raise damaged(f"{where}, proxyWidgets", one, "a list of a node's id and a name")


def check_link(link: Any, where: str) -> None:
    """Refuse a link that is neither a list, as at the top level, nor a dictionary, as in a subgraph."""
    expect(link, (list, dict, type(None)), where)
    if link is None:
        return
    if isinstance(link, list):
        if len(link) < len(LINK):
            raise damaged(where, link, "a list of six: id, node, slot, node, slot, type")
        link = dict(zip(LINK, link, strict=False))
    check(link, LINK, {}, where)
    for slot in ("origin_slot", "target_slot"):
        if link[slot] < 0:
            raise damaged(f"{where}, {slot}", link[slot], "0 or more")


def check(value: Any, must: dict[str, Kind], may: dict[str, Kind], where: str) -> None:
    """Refuse anything but a dictionary with these entries in these types."""
    expect(value, DICT, where)
    for name, kinds in must.items():
        if name not in value:
            raise Trouble(f"This workflow file is damaged: {where} has no {name!r}. Save it anew in the editor.")
        expect(value[name], kinds, f"{where}, {name}")
    for name, kinds in may.items():
        if name in value:
            expect(value[name], kinds, f"{where}, {name}")


def expect(value: Any, kinds: Kind, where: str) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, kinds):
        names = {list: "a list", dict: "a dictionary", str: "a text", int: "a whole number"}
        wanted = [names[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)) if kind in names]
        raise damaged(where, value, " or ".join(wanted))


def damaged(where: str, value: Any, wanted: str) -> Trouble:
    """The sentence about a value that cannot be."""
    shown = ascii(value)
    shown = shown if len(shown) < 60 else shown[:57] + "..."
    return Trouble(
        f"This workflow file is damaged: {where} is {shown}, where {wanted} belongs. Save it anew in the editor."
    )
