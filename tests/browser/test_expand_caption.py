"""Expand Caption as a person meets it: open the template, press Run, read on the node what became of the prompt."""

import pytest

from comfyui_spacetime.tools.comfyui import LINK_NAME

pytestmark = pytest.mark.browser

# What a node shows under its widgets, as the editor holds it. Nodes 2.0 of the pinned editor holds it, but does not
# draw it on this node after a run; there, people read it on the preview beside.
SHOWN = """([type, text]) => app.graph.nodes
  .filter((node) => node.type === type)
  .some((node) => node.widgets?.some((one) => String(one.value).includes(text)))"""
LOOK_AT = """(type) => {
  app.canvas.selectNode(app.graph.nodes.find((node) => node.type === type))
  app.canvas.fitViewToSelectionAnimated()
}"""
CHANGE = """([type, name, value]) => {
  const widget = app.graph.nodes.find((one) => one.type === type).widgets.find((one) => one.name === name)
  widget.value = value
  widget.callback?.(value)
}"""


def test_the_node_shows_the_caption_and_what_was_done(editor):
    page = editor.page
    editor.open_template(LINK_NAME, "expand_caption")
    page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'SpacetimeExpandCaption')")
    prompt = "two green cones on a gray floor" if editor.vue else "a red ball rolls to the left"
    for node, name, value in (
        ("SpacetimeExpandCaption", "prompt", prompt), ("SpacetimeEmptyVideo", "width", 64),
        ("SpacetimeEmptyVideo", "height", 48), ("SpacetimeEmptyVideo", "seconds", 0.75),
        ("SpacetimeScheduler", "steps", 2),
    ):  # fmt: skip
        page.evaluate(CHANGE, [node, name, value])
    page.evaluate(LOOK_AT, "SpacetimeExpandCaption")  # Nodes 2.0 draws only what is in view
    editor.press_run(300)
    page.wait_for_function(SHOWN, arg=["SpacetimeExpandCaption", "added after your words: background, camera, style"])
    page.wait_for_function(SHOWN, arg=["SpacetimeExpandCaption", f"{prompt}. The background is"])
    page.evaluate(LOOK_AT, "PreviewAny")
    if editor.vue:
        page.locator(f"text={prompt}. The background is").first.wait_for(state="visible")
    else:
        page.wait_for_function(SHOWN, arg=["PreviewAny", f"{prompt}. The background is"])
