"""Swap for…: a node gives its place to another one, and nothing else changes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from comfyui_spacetime.tools.pictures.editor import Editor

from .swap_pairs import FIRST, GRAPHS, PAIRS

pytestmark = pytest.mark.browser

OPEN = """async ([prompt, kind]) => {
  app.loadApiJson(structuredClone(prompt), 'swap')
  await new Promise((resolve) => setTimeout(resolve, 60))
  const node = app.graph.nodes.find((one) => one.type === kind)
  Object.assign(node, {title: 'My own', color: '#322', bgcolor: '#533', pos: [600, 400]})
  node.setSize([node.size[0] + 40, node.size[1] + 30])
  const places = () => JSON.stringify(app.graph.nodes.map(({pos, size}) => [[...pos], [...size]]))
  for (let before = ''; LiteGraph.vueNodesMode && before !== places();) {  // it lays out and sizes them later
    before = places()
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
  ;(tracker.captureCanvasState ?? tracker.checkState).call(tracker)
  tracker.undoQueue.length = 0
}"""
# a graph in words: what is linked with what by type, and each node; ids of links differ after an undo
STATE = """() => {
  const graph = app.canvas.graph
  const type = (link) => graph.getNodeById(link.origin_id)?.outputs[link.origin_slot].type
  return {
    links: [...graph.links.values()]
      .map((link) => [String(link.origin_id), type(link), String(link.target_id)].join(' ')).sort(),
    nodes: Object.fromEntries(graph.nodes.map((node) => [String(node.id), {
      type: node.type, title: node.title, color: node.color, bgcolor: node.bgcolor, pos: [...node.pos].map(Math.round),
      size: [...node.size].map(Math.round),
      values: Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value])),
    }])),
    undo: app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length,
  }
}"""
SWAP = """async ([kind, target]) => {
  const {swap} = await import('/extensions/spacetime/js/swap/replace.js')
  const {choices} = await import('/extensions/spacetime/js/swap/menu.js')
  const node = app.canvas.graph.nodes.find((one) => one.type === kind)
  const offered = choices([node]).find((one) => one.type === target)
  const [done] = await swap([node], target)
  return {id: String(done.node.id), refused: done.refused, linked: done.linked, open: done.open, lacks: offered?.lacks}
}"""
VALUES = """([id, values]) => {
  for (const widget of app.graph.getNodeById(id).widgets ?? []) {
    if (widget.name in values) widget.value = values[widget.name]
  }
}"""
UNDO = """async () => {
  await app.extensionManager.command.execute('Comfy.Undo')
  await new Promise((resolve) => setTimeout(resolve, 150))
}"""


@pytest.fixture(scope="module")
def pages(open_editor) -> Iterator[Callable[[str], Editor]]:
    """One page for all pairs, in each way of drawing."""
    with ExitStack() as opened:
        yield cache(lambda drawing: opened.enter_context(open_editor(drawing)))


@pytest.fixture(params=["classic", "nodes 2.0"])
def shared(request, pages) -> Editor:
    editor = pages(request.param)
    editor.page.bring_to_front()
    return editor


# every pair on the classic canvas; in Nodes 2.0, which draws the same graph, one of each graph
CASES = [*(("classic", pair) for pair in PAIRS), *(("nodes 2.0", pair) for pair in FIRST)]


@pytest.mark.parametrize(("shared", "pair"), CASES, ids=str, indirect=["shared"])
def test_a_swap_keeps_everything_runs_and_is_undone_in_one_step(shared, host, pair):
    page = shared.page
    page.evaluate(OPEN, [GRAPHS[pair.graph], pair.old])
    before = page.evaluate(STATE)
    told = page.evaluate(SWAP, [pair.old, pair.new])
    after = page.evaluate(STATE)
    assert told["lacks"] == [], "the menu offers it, and says that nothing is missing"
    assert told["open"] == []

    assert set(before["links"]) <= set(after["links"])
    assert len(after["links"]) == len(before["links"]) + len(told["linked"])
    assert before["nodes"].keys() == after["nodes"].keys()
    old, new = (one["nodes"][told["id"]] for one in (before, after))
    assert (old["type"], new["type"]) == (pair.old, pair.new)
    for kept in ("title", "color", "bgcolor", "pos"):
        assert new[kept] == old[kept], kept
    assert shared.vue or (new["size"][0] >= old["size"][0] and new["size"][1] >= old["size"][1])
    for name in old["values"].keys() & new["values"].keys() - set(told["refused"]):
        assert new["values"][name] == old["values"][name], name
    others = before["nodes"].keys() - {told["id"]}
    assert all(after["nodes"][key]["values"] == before["nodes"][key]["values"] for key in others)

    if not shared.vue:  # what runs does not depend on the drawing
        page.evaluate(VALUES, [told["id"], pair.values])
        assert host.run(shared.prompt()).seconds > 0
        page.evaluate(VALUES, [told["id"], new["values"]])
    assert page.evaluate(STATE)["undo"] == 1
    page.evaluate(UNDO)
    undone = page.evaluate(STATE)
    assert undone["links"] == before["links"]
    for key, one in before["nodes"].items():
        for kept in ("type", "title", "color", "values"):
            assert undone["nodes"][key][kept] == one[kept], (key, kept)


def test_a_swap_that_would_lose_a_link_changes_nothing(shared):
    page = shared.page
    page.evaluate(OPEN, [GRAPHS["run"], "SpacetimeGuider"])
    before = page.evaluate(STATE)
    told = page.evaluate(
        f"(pair) => ({SWAP})(pair).catch((error) => error.message)", ["SpacetimeGuider", "BasicGuider"]
    )
    assert told == "BasicGuider has no place for the link of negative"
    assert page.evaluate(STATE) == before


def test_several_nodes_are_swapped_in_one_step(shared):
    page = shared.page
    page.evaluate(OPEN, [GRAPHS["run"], "SpacetimeGuider"])
    page.evaluate("void app.graph.add(LiteGraph.createNode('SpacetimeScheduler'))")
    page.evaluate(
        """async () => {
          const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
          ;(tracker.captureCanvasState ?? tracker.checkState).call(tracker)
          tracker.undoQueue.length = 0
          const {swap} = await import('/extensions/spacetime/js/swap/replace.js')
          await swap(app.graph.nodes.filter((node) => node.type === 'SpacetimeScheduler'), 'LTXVScheduler')
        }"""
    )
    kinds = "app.graph.nodes.map((node) => node.type).filter((type) => type.endsWith('Scheduler'))"
    assert page.evaluate(kinds) == ["LTXVScheduler"] * 2
    page.evaluate(UNDO)
    assert sorted(page.evaluate(kinds)) == ["SpacetimeScheduler"] * 2


def test_inside_a_subgraph_the_links_to_its_edge_stay(shared, host):
    page = shared.page
    page.evaluate(OPEN, [GRAPHS["run"], "SpacetimeGuider"])
    page.evaluate(
        """async () => {
          const chosen = app.graph.nodes.filter((one) => ['7', '9'].includes(String(one.id)))
          const {node} = app.graph.convertToSubgraph(new Set(chosen))
          app.canvas.openSubgraph(node.subgraph, node)
          await new Promise((resolve) => setTimeout(resolve, 400))
          const {swap} = await import('/extensions/spacetime/js/swap/replace.js')
          const guider = app.canvas.graph.nodes.find((one) => one.type === 'SpacetimeGuider')
          await swap([guider], 'CFGGuider')
        }"""
    )
    ends = page.evaluate(
        """() => {
          const guider = app.canvas.graph.nodes.find((one) => one.type === 'CFGGuider')
          return guider.inputs.map((slot, i) => [slot.name, guider.isInputConnected(i)])
        }"""
    )
    assert [name for name, linked in ends if linked][:3] == ["model", "positive", "negative"]
    page.evaluate("app.canvas.setGraph(app.rootGraph ?? app.graph)")
    prompt = shared.prompt()
    assert {"CFGGuider"} == {one["class_type"] for one in prompt.values() if one["class_type"].endswith("Guider")}
    assert host.run(prompt).seconds > 0


MENU = ".litecontextmenu .litemenu-entry"
TOOLBOX = "button:has(.pi-arrow-right-arrow-left)"
LOOK_AT = """(kind) => {
  const node = app.graph.nodes.find((one) => one.type === kind)
  app.canvas.deselectAll()
  app.canvas.selectNode(node)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [300 - node.pos[0], 240 - node.pos[1]]
  app.canvas.setDirty(true, true)
}"""


def test_by_the_menu_of_a_node(shared):
    """The right button, the entry, its list, the first of it."""
    if shared.vue:
        pytest.skip("not every frontend's Nodes 2.0 has entries of extensions in its menu; toolbox and keys are there")
    page = shared.page
    page.evaluate(OPEN, [GRAPHS["run"], "SpacetimeScheduler"])
    page.evaluate(LOOK_AT, "SpacetimeScheduler")
    page.wait_for_timeout(300)
    page.mouse.click(380, 226, button="right")
    page.locator(MENU, has_text="Swap for…").last.click()
    page.locator(MENU, has_text="BasicScheduler").last.click()
    page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'BasicScheduler')")


def test_by_the_toolbox_of_a_selection(shared):
    page = shared.page
    page.evaluate(OPEN, [GRAPHS["run"], "SpacetimeScheduler"])
    page.evaluate(LOOK_AT, "SpacetimeScheduler")
    page.locator(TOOLBOX).first.click()
    page.get_by_role("option", name="BasicScheduler").click()
    page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'BasicScheduler')")


def test_by_the_list_with_the_keyboard(shared):
    page = shared.page
    page.evaluate(OPEN, [GRAPHS["run"], "SpacetimeScheduler"])
    page.evaluate(LOOK_AT, "SpacetimeScheduler")
    page.keyboard.press("Control+Alt+w")
    dialog = page.get_by_role("dialog", name="Swap My own for")
    dialog.wait_for()
    assert dialog.get_by_role("option").count() > 8
    page.keyboard.type("beta")
    assert dialog.get_by_role("option").all_inner_texts() == ["BetaSamplingScheduler"]
    page.keyboard.press("Enter")
    dialog.wait_for(state="detached")
    page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'BetaSamplingScheduler')")
