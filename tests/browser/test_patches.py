"""Look at the patches: the grid of a run, patch by patch, in either way of drawing."""

import random

import pytest

pytestmark = pytest.mark.browser

SIZE = {"width": 64, "height": 48, "seconds": 0.75, "fps": 12.0, "batch": 1}
PROMPT = {
    "1": {"class_type": "SpacetimeLoadCheckpoint", "inputs": {"checkpoint": "spacetime-toy", "dtype": "auto"}},
    "2": {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **SIZE}},
    "3": {
        "class_type": "SpacetimePatchify",
        "inputs": {"latent": ["2", 0], "patch_frames": 1, "patch_height": 2, "patch_width": 2},
    },
    "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}},
    "5": {"class_type": "SpacetimeScheduler", "inputs": {"steps": 2, "schedule": "linear"}},
    "6": {
        "class_type": "SpacetimeForwardDiffusion",
        "inputs": {"tokens": ["3", 0], "noise": ["4", 0], "sigmas": ["5", 0]},
    },
    "7": {"class_type": "SpacetimeUnpatchify", "inputs": {"tokens": ["6", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["1", 2]}},
    "9": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}},
}
OPEN = """(kind) => {
  app.canvas.deselectAll()
  app.canvas.selectNode(app.graph.nodes.find((one) => one.type === kind))
  app.extensionManager.command.execute('Spacetime.Patches')
}"""
COLOURS = """() => {
  const canvas = document.querySelector('.spacetime-patches canvas')
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
  const seen = new Set()
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3]) seen.add(pixels.slice(i, i + 3).join())
  return {width: canvas.width, height: canvas.height, colours: seen.size}
}"""


def test_a_runs_patches_are_shown_frame_by_frame(editor):
    page = editor.page
    # a seed of its own: of what the host has still in its cache it sends nothing
    prompt = {**PROMPT, "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": random.randrange(10**9)}}}
    size = {**SIZE, "height": 80 + 32 * editor.vue}
    prompt["2"] = {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **size}}
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'patches')", prompt)
    page.wait_for_timeout(300)
    editor.press_run()
    page.evaluate(OPEN, "SpacetimeForwardDiffusion")
    dialog = page.get_by_role("dialog", name="Patches")
    dialog.wait_for()
    shown = page.evaluate(COLOURS)  # 8 latents across are 4 patches
    assert (shown["width"], shown["height"]) == (4 * 24, (5 + 2 * editor.vue) * 24)
    assert shown["colours"] > 8, "noise has many colours"
    canvas = dialog.locator("canvas")
    canvas.click()
    assert f"latent frame 0, row {2 + editor.vue}, column 2 · noise level 1" in dialog.inner_text()
    canvas.press("ArrowLeft")
    assert f"row {2 + editor.vue}, column 1" in dialog.inner_text()
    time = dialog.get_by_label("Latent frame", exact=True)
    time.press("End")
    assert canvas.get_attribute("data-frame") == time.get_attribute("max")
    dialog.get_by_label("What is shown").select_option("levels")
    assert page.evaluate(COLOURS)["colours"] == 1, "every patch has the same noise"
    dialog.get_by_role("button", name="Close").click()

    page.evaluate(OPEN, "SpacetimePatchify")
    dialog.get_by_label("What is shown").select_option("levels")
    assert "before a run" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_before_a_run_it_says_so(editor):
    page = editor.page
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'patches')", PROMPT)
    page.wait_for_timeout(300)
    page.evaluate(OPEN, "SpacetimePatchify")
    page.get_by_text("this node shows the patches of its last run").wait_for()
