"""Measure the nodes of the workflows in the editor, in both ways of drawing, and give them room: `run.py layout`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...models.files import write_text
from .. import comfyui
from ..client import load_workflow
from ..environment import ROOT
from ..host import Host
from ..layout import Box, make_room
from ..terminal import Trouble, say
from .editor import Editor, open_browser, visit

DRAWINGS = (False, True)  # the classic canvas, Nodes 2.0

# the whole graph in view, since Nodes 2.0 draws only what is
FIT = """() => {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity]
  for (const {pos, size} of app.canvas.graph.nodes) {
    left = Math.min(left, pos[0]); top = Math.min(top, pos[1])
    right = Math.max(right, pos[0] + size[0]); bottom = Math.max(bottom, pos[1] + size[1])
  }
  const view = app.canvas.ds
  view.scale = Math.min(1, 0.8 * Math.min(innerWidth / (right - left + 400), innerHeight / (bottom - top + 600)))
  view.offset = [0.1 * innerWidth / view.scale - left, 0.15 * innerHeight / view.scale - top]
  app.canvas.setDirty(true, true)
}"""
DRAWN = """() => !LiteGraph.vueNodesMode ||
  app.canvas.graph.nodes.every((node) => document.querySelector(`[data-node-id="${node.id}"]`)?.offsetHeight > 20)"""
# type and [left, top, right, bottom] of each node, in the graph's own units and in the file's order: the editor gives
# nodes of subgraphs other ids where two graphs use the same ones. Nodes 2.0 puts a node's upper edge, its title, so far
# above its place, and sizes it by what is in it
BOXES = """() => app.canvas.graph.nodes.map((node) => {
  if (!LiteGraph.vueNodesMode) {
    const [x, y, width, height] = node.getBounding(new Float32Array(4))
    return [node.type, [x, y, x + width, y + height]]
  }
  const drawn = document.querySelector(`[data-node-id="${node.id}"]`), [x, y] = node.pos
  const top = y - LiteGraph.NODE_TITLE_HEIGHT
  return [node.type, [x, top, x + drawn.offsetWidth, top + drawn.offsetHeight]]
})"""
# a graph that is loaded while a subgraph is open stays behind that one
LEAVE = "() => app.canvas.setGraph(app.rootGraph ?? app.graph)"
OPEN_SUBGRAPH = """(id) => {
  const node = app.graph.nodes.find((one) => one.subgraph?.id === id)
  app.canvas.openSubgraph(node.subgraph, node)
}"""


def main() -> int:
    """Give room to the workflows that were named, or to all."""
    parser = argparse.ArgumentParser(prog="run.py layout")
    parser.add_argument("--comfyui", metavar="PATH")
    parser.add_argument("files", nargs="*", type=Path, help="all workflows when left out")
    options = parser.parse_args()
    everything = [*sorted((ROOT / "workflows").glob("*.json")), *sorted((ROOT / "subgraphs").glob("*.json"))]
    try:
        with Host.start(comfyui.find(options.comfyui)) as host, browser(host) as page:
            for path in options.files or everything:
                give_room(page, path)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


@contextmanager
def browser(host: Host) -> Iterator[Editor]:
    """An editor in a Chromium with a fresh profile."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        context = open_browser(playwright, host.url, Path(folder), size=(800, 500))
        try:
            visit(context.pages[0], host.url)
            yield Editor(context.pages[0], host.url, vue=False)
        finally:
            context.close()


def give_room(editor: Editor, path: Path) -> None:
    """Measure one workflow, its subgraphs too, and write it anew where nodes had to move."""
    workflow = load_workflow(path)
    moved = [make_room(graph, measured(editor, workflow, graph)) for graph in graphs(workflow)]
    if any(moved):
        write_text(path, json.dumps(workflow, ensure_ascii=False, indent=2) + "\n")
    say(f"{path.name}: {'moved' if any(moved) else 'as it was'}")


def graphs(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The graph of a workflow, and those of its subgraphs."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def measured(editor: Editor, workflow: dict[str, Any], graph: dict[str, Any]) -> dict[int, Box]:
    """What each node of a graph takes up in all ways of drawing together."""
    found = [boxes_in(editor, workflow, graph, vue=vue) for vue in DRAWINGS]
    return {key: Box.around(one[key] for one in found) for key in found[0]}


def boxes_in(editor: Editor, workflow: dict[str, Any], graph: dict[str, Any], *, vue: bool) -> dict[int, Box]:
    """What each node of a graph (of the workflow itself, or of a subgraph) takes up in one way of drawing."""
    page = editor.page
    page.evaluate(LEAVE)
    draw_by(editor, vue=False)  # loaded in Nodes 2.0, a graph may get the places of the one before
    editor.load(workflow)
    if graph is not workflow:
        page.evaluate(OPEN_SUBGRAPH, graph["id"])
    draw_by(editor, vue=vue)
    page.evaluate(FIT)
    page.wait_for_function(DRAWN)
    drawn = page.evaluate(BOXES)
    for _ in range(20):  # texts and curves take their place a moment later
        page.wait_for_timeout(300)
        before, drawn = drawn, page.evaluate(BOXES)
        if drawn == before:
            break
    assert [kind for kind, _ in drawn] == [node["type"] for node in graph["nodes"]], "the editor shows another graph"
    return {node["id"]: Box(*edges) for node, (_, edges) in zip(graph["nodes"], drawn, strict=True)}


def draw_by(editor: Editor, *, vue: bool) -> None:
    """Switch to one of the ways of drawing."""
    editor.page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)
    editor.page.wait_for_function("(on) => !!LiteGraph.vueNodesMode === on", arg=vue)


if __name__ == "__main__":
    sys.exit(main())
