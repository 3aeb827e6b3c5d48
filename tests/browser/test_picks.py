"""Explore Seeds and Pick Runs: a click on the sheet picks a run, which is then what the workflow says."""

import random

import pytest

pytestmark = pytest.mark.browser

SIZE = {"width": 64, "height": 48, "seconds": 0.75, "fps": 12.0, "batch": 1}
PROMPT = {
    "1": {"class_type": "SpacetimeLoadCheckpoint", "inputs": {"checkpoint": "spacetime-toy", "dtype": "auto"}},
    "2": {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **SIZE}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red ball"}},
    "4": {
        "class_type": "SpacetimeGuider",
        "inputs": {"model": ["1", 0], "positive": ["3", 0], "cfg": 1.0, "mode": "cfg"},
    },
    "5": {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}},
    "6": {"class_type": "SpacetimeScheduler", "inputs": {"steps": 2, "schedule": "linear"}},
    "7": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "8": {
        "class_type": "SpacetimePatchify",
        "inputs": {"latent": ["2", 0], "patch_frames": 1, "patch_height": 2, "patch_width": 2},
    },
    "9": {
        "class_type": "SpacetimeExploreSeeds",
        "inputs": {
            "tokens": ["8", 0],
            "noise": ["5", 0],
            "sigmas": ["6", 0],
            "guider": ["4", 0],
            "sampler": ["7", 0],
            "vae": ["1", 2],
            "seeds": 3,
            "steps": 1,
            "fps": 12.0,
        },
    },
    "10": {"class_type": "SpacetimePickRuns", "inputs": {"runs": ["9", 0], "pick": ""}},
    "11": {"class_type": "SpacetimeUnpatchify", "inputs": {"tokens": ["10", 0]}},
    "12": {"class_type": "VAEDecode", "inputs": {"samples": ["11", 0], "vae": ["1", 2]}},
    "13": {"class_type": "PreviewImage", "inputs": {"images": ["12", 0]}},
}
PICK = "app.graph.nodes.find((one) => one.type === 'SpacetimePickRuns')"
VALUE = f"() => {PICK}.widgets.find((one) => one.name === 'pick').value"
PICKED = "async () => Object.values((await app.graphToPrompt()).output).find((one) => 'pick' in one.inputs).inputs.pick"

# loaded once more with all nodes in a row, since they lie on one another where an API prompt is loaded in Nodes 2.0
APART = """async () => {
  const data = app.graph.serialize()
  data.nodes.forEach((node, i) => { node.pos = [700 * i, 0] })
  await app.loadGraphData(data)
}"""
LOOK = f"""() => {{
  app.canvas.ds.scale = 0.8
  app.canvas.ds.offset = [200 - {PICK}.pos[0], 120]
  app.canvas.setDirty(true, true)
}}"""

# the panel's height, once it has been the same for a while
STEADY = """() => new Promise((done) => {
  const look = (last, times) => setTimeout(() => {
    const height = document.querySelector('.spacetime-picks').offsetHeight
    if (height === last && times === 3) done(height)
    else look(height, height === last ? times + 1 : 0)
  }, 100)
  look(0, 0)
})"""


def test_a_click_on_the_sheet_picks_a_run(editor):
    page = editor.page
    prompt = {**PROMPT, "5": {"class_type": "RandomNoise", "inputs": {"noise_seed": random.randrange(10**9)}}}
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'picks')", prompt)
    page.wait_for_function(f"() => {PICK}")
    page.evaluate(APART)
    page.wait_for_function(f"() => {PICK}")
    page.evaluate(LOOK)
    panel = page.locator(".spacetime-picks")
    panel.get_by_text("The sheet of Explore Seeds appears here").wait_for()
    before = page.evaluate(STEADY)
    editor.press_run()
    second = panel.get_by_role("button", name="Run 2, seed")
    second.wait_for()
    assert panel.get_by_role("button").count() == 3
    page.wait_for_function("() => document.querySelector('.spacetime-picks img').naturalWidth > 0")
    assert page.evaluate(STEADY) == before, "the sheet takes the place that was kept for it"

    panel.get_by_role("button", name="Run 3, seed").click()
    second.focus()
    page.keyboard.press("Space")
    page.wait_for_function(f"() => ({VALUE})() === '3, 2'")
    assert second.get_attribute("aria-pressed") == "true"
    assert page.evaluate(PICKED) == "3, 2"
    assert panel.bounding_box()["width"] > 100
    second.click()
    assert page.evaluate(VALUE) == "3"
    assert second.get_attribute("aria-pressed") == "false"
    page.evaluate(
        f"() => {{ const w = {PICK}.widgets.find((one) => one.name === 'pick'); w.value = '1'; w.callback('1') }}"
    )
    assert panel.locator("[aria-pressed=true]").get_attribute("aria-label").startswith("Run 1,")
    assert ".webp" not in page.evaluate("() => JSON.stringify(app.graph.serialize())"), "what a run showed is not kept"
