"""Expand Caption as a person meets it: open the template, press Run, read on the node what became of the prompt."""

import pytest

from comfyui_spacetime.tools.comfyui import LINK_NAME

pytestmark = pytest.mark.browser

# What a node says, as the editor holds it.
SHOWN = """([type, text]) => app.graph.nodes
  .filter((node) => node.type === type)
  .some((node) => node.widgets?.some((one) => (one.element?.textContent || String(one.value)).includes(text)))"""
# Letters on the screen: an element that is visible, inside the window, and has both texts in it.
DRAWN = """(texts) => [...document.querySelectorAll('div, span, textarea')].some((one) => {
  const text = one.value ?? one.innerText ?? ''
  const box = one.getBoundingClientRect()
  return texts.every((part) => text.includes(part)) && one.checkVisibility({visibilityProperty: true}) &&
    box.width > 20 && box.height > 10 && box.height < 600 && box.top >= 0 && box.top < innerHeight - 40
})"""
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
        ("SpacetimeExpandCaption", "prompt", prompt),
        ("SpacetimeEmptyVideo", "width", 64),
        ("SpacetimeEmptyVideo", "height", 48),
        ("SpacetimeEmptyVideo", "seconds", 0.75),
        ("SpacetimeScheduler", "steps", 2),
    ):
        page.evaluate(CHANGE, [node, name, value])
    page.evaluate(LOOK_AT, "SpacetimeExpandCaption")  # Nodes 2.0 draws only what is in view
    editor.press_run(300)
    page.wait_for_function(SHOWN, arg=["SpacetimeExpandCaption", "added after your words: background, camera, style"])
    page.wait_for_function(SHOWN, arg=["SpacetimeExpandCaption", f"{prompt}. The background is"])
    page.evaluate(LOOK_AT, "SpacetimeExpandCaption")  # it has grown
    page.wait_for_function(DRAWN, arg=[f"{prompt}. The background is", "background, camera, style)"])
    page.wait_for_timeout(1500)  # some editors take away their own widget when a run has ended; ours stays
    page.wait_for_function(DRAWN, arg=[f"{prompt}. The background is", "background, camera, style)"])
    kept = page.evaluate("async () => JSON.stringify([app.graph.serialize(), (await app.graphToPrompt()).output])")
    assert "added after your words" not in kept, "what a run said is not part of the workflow"
    page.wait_for_function(SHOWN, arg=["PreviewAny", f"{prompt}. The background is"])


def test_later_texts_replace_it_in_either_way_of_drawing(editor):
    """One widget of ours holds it, which is neither the editor's nor doubled."""
    page = editor.page
    editor.open_template(LINK_NAME, "expand_caption")
    page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'SpacetimeExpandCaption')")
    page.evaluate(LOOK_AT, "SpacetimeExpandCaption")
    say = """async (text) => {
      const node = app.graph.nodes.find((one) => one.type === 'SpacetimeExpandCaption')
      app.api.dispatchCustomEvent('progress_text', {nodeId: String(node.id), text})
      await Promise.resolve()
      return node.widgets.filter((one) => (one.element?.textContent || String(one.value)).includes(text)).length
    }"""
    assert [page.evaluate(say, f"text number {number}") for number in (1, 2, 3)] == [1, 1, 1]
    page.wait_for_function(DRAWN, arg=["text number 3", "number 3"])
    assert page.evaluate("() => document.body.innerText.includes('text number 2')") is False
    page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", not editor.vue)
    page.wait_for_timeout(500)
    page.evaluate(LOOK_AT, "SpacetimeExpandCaption")  # its size is another one now
    assert page.evaluate(say, "text number 4") == 1
    page.wait_for_function(DRAWN, arg=["text number 4", "number 4"])
