"""Paint Levels in the editor: what is painted stands in the workflow, in the prompt, and is what runs."""

import pytest

from comfyui_spacetime.models.tasks.painting import parse_map

pytestmark = pytest.mark.browser
GRAPH = {
    "7": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 13, "color": 0xFF8800}},
    "8": {
        "class_type": "SpacetimeLoadCheckpoint",
        "inputs": {"checkpoint": "spacetime-toy", "dtype": "fp32", "form": "full"},
    },
    "1": {"class_type": "SpacetimeVAEEncode", "inputs": {"vae": ["8", 2], "frames": ["7", 0], "max_frames": 0}},
    "2": {"class_type": "SpacetimePaintLevels", "inputs": {"latent": ["1", 0], "levels_map": ""}},
    "3": {
        "class_type": "SpacetimePatchify",
        "inputs": {"latent": ["2", 0], "patch_frames": 1, "patch_height": 2, "patch_width": 2},
    },
    "4": {"class_type": "SpacetimeUnpatchify", "inputs": {"tokens": ["3", 0]}},
    "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}},
}
LOOK = """() => {
  const node = app.graph.nodes.find((one) => one.type === 'SpacetimePaintLevels')
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [200 - node.pos[0], 120 - node.pos[1]]
  app.canvas.setDirty(true, true)
}"""
TEXT = """() => {
  const node = app.graph.nodes.find((one) => one.type === 'SpacetimePaintLevels')
  return node.widgets.find((one) => one.name === 'levels_map').value
}"""


def test_levels_are_painted_stored_undone_and_run(editor):
    page = editor.page
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'levels')", GRAPH)
    page.evaluate(LOOK)
    page.locator(".spacetime-levels").wait_for(state="visible")
    cells = page.get_by_label("Levels of a latent frame", exact=False)
    editor.press_run()  # the map then has the cells of the clip: 64 x 48 pixels are 4 x 3 patches
    page.wait_for_function("() => document.querySelector('.spacetime-levels p').textContent.includes('of 4')")
    assert page.evaluate(TEXT) == "", "a run alone paints nothing"

    cells.focus()  # by keyboard: the second cell of the second row
    cells.press("ArrowDown")
    cells.press("ArrowRight")
    cells.press("Enter")
    one = parse_map(page.evaluate(TEXT))
    assert one.size == (4, 3, 4)
    assert [at for at, level in enumerate(one.levels) if level] == [5]
    assert "row 2, column 2: level 1, made anew" in page.locator(".spacetime-levels p").text_content()

    page.get_by_label("Level to paint, in percent").fill("60")
    drag_over(page, page.get_by_label("Levels over time", exact=False), (0.6, 0.5), (0.95, 0.5))
    two = parse_map(page.evaluate(TEXT))
    assert two.levels[:24] == one.levels[:24]
    assert set(two.levels[24:]) == {60}, "both frames that the drag went over, whole"

    assert editor.prompt()["2"]["inputs"]["levels_map"] == two.text()
    editor.press_run()
    levels = page.evaluate(RUN)
    assert levels == [round(255 * level / 100) for level in two.levels]


RUN = """async () => {
  const node = app.graph.nodes.find((one) => one.type === 'SpacetimePatchify')
  for (;;) {
    const told = (node.spacetimePatches ?? app.nodeOutputs?.[node.id]?.spacetime_patches)?.[0]
    const found = told && [...atob(told.levels)].map((letter) => letter.charCodeAt(0))
    if (found?.some((level) => level === 153)) return found
    await new Promise((done) => setTimeout(done, 100))
  }
}"""


def drag_over(page, canvas, start, stop):
    """Press at one place of an element (shares of its width and height), and go to another."""
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, stop)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()
