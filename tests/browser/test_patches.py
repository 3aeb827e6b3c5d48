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


PIXELS = "() => document.querySelector('.spacetime-patches canvas.grid').toDataURL()"
INSPECT = {
    "10": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red ball"}},
    "11": {
        "class_type": "SpacetimeGuider",
        "inputs": {"model": ["1", 0], "positive": ["10", 0], "cfg": 1.0, "mode": "cfg"},
    },
    "12": {
        "class_type": "SpacetimeInspectTokens",
        "inputs": {"tokens": ["6", 0], "guider": ["11", 0], "vae": ["1", 2]},
    },
}
# what the run said has reached the node: the editor hands it on after the message that the run has ended, or before
TOLD = "(kind) => app.graph.nodes.some((one) => one.type === kind && one.spacetimePatches)"


def run_and_open(editor, prompt, kind):
    """Load, run, wait until the node knows, and open its view."""
    page = editor.page
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'patches')", prompt)
    page.wait_for_function("(kind) => app.graph.nodes.some((one) => one.type === kind)", arg=kind)
    editor.press_run()
    page.wait_for_function(TOLD, arg=kind)
    page.evaluate(OPEN, kind)
    dialog = page.get_by_role("dialog", name="Patches")
    dialog.wait_for()
    return dialog


def test_a_runs_patches_are_shown_frame_by_frame(editor):
    page = editor.page
    # a seed of its own: of what the host has still in its cache it sends nothing
    prompt = {**PROMPT, "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": random.randrange(10**9)}}}
    size = {**SIZE, "height": 80 + 32 * editor.vue}
    prompt["2"] = {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **size}}
    dialog = run_and_open(editor, prompt, "SpacetimeForwardDiffusion")
    shown = page.evaluate(COLOURS)  # 8 latents across are 4 patches
    assert (shown["width"], shown["height"]) == (4 * 24, (5 + 2 * editor.vue) * 24)
    assert shown["colours"] > 8, "noise has many colours"
    canvas = dialog.locator("canvas.grid")
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

    page.wait_for_function(TOLD, arg="SpacetimePatchify")
    page.evaluate(OPEN, "SpacetimePatchify")
    dialog.get_by_label("What is shown").select_option("levels")
    assert "before a run" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_a_task_shows_what_is_known_and_what_is_made_anew(editor):
    """Extend Video stands for all tasks: five latents known, four to come."""
    color = random.randrange(1 << 24)  # of what the host has still in its cache it sends nothing
    still = {"width": 64, "height": 48, "batch_size": 17, "color": color}
    prompt = {
        "1": PROMPT["1"],
        "2": {"class_type": "EmptyImage", "inputs": still},
        "3": {"class_type": "SpacetimeVAEEncode", "inputs": {"vae": ["1", 2], "frames": ["2", 0], "max_frames": 0}},
        "4": {
            "class_type": "SpacetimeExtendVideo",
            "inputs": {"latent": ["3", 0], "direction": "forward", "seconds": 1.25, "fps": 12, "frames_per_latent": 0},
        },
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}},
    }
    dialog = run_and_open(editor, prompt, "SpacetimeExtendVideo")
    view = dialog.get_by_label("What is shown")
    assert view.locator("option").all_inner_texts() == ["Noise level"], "a task has nothing else to show yet"
    assert "55.6 % of the patches are known, 44.4 % are made anew" in dialog.inner_text()
    canvas = dialog.get_by_label("Patches of a latent frame")
    canvas.click()
    assert "latent frame 0, row 1, column 2 · change level 0, known" in dialog.inner_text()
    known = editor.page.evaluate(PIXELS)
    dialog.get_by_label("Latent frame", exact=True).press("End")
    canvas.click()
    assert "latent frame 8, row 1, column 2 · change level 1, made anew" in dialog.inner_text()
    assert editor.page.evaluate(PIXELS) != known
    editor.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_before_a_run_it_says_so(editor):
    page = editor.page
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'patches')", PROMPT)
    page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'SpacetimePatchify')")
    page.evaluate(OPEN, "SpacetimePatchify")
    page.get_by_text("this node shows the patches of its last run").wait_for()


def test_a_patch_says_what_it_attends_to_over_the_frames(editor):
    prompt = {
        **PROMPT,
        **INSPECT,
        "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": random.randrange(10**9)}},
    }
    page, dialog = editor.page, run_and_open(editor, prompt, "SpacetimeInspectTokens")
    page.locator(".spacetime-patches[data-pictures='guess,state']").wait_for()
    canvas = dialog.locator("canvas.grid")
    under = dialog.get_by_label("Picture under the patches")
    assert under.input_value() == "guess"
    pictured = page.evaluate(COLOURS)["colours"]
    under.select_option("")
    assert page.evaluate(COLOURS)["colours"] < pictured, "the frame lies under the patches"
    under.select_option("state")

    view = dialog.get_by_label("What is shown")
    view.select_option("attention")
    canvas.click()
    page.locator(".spacetime-patches canvas[data-asked='0,mean,6']").wait_for()  # 4 x 3 patches: row 1, column 2
    first = dialog.inner_text()
    assert "norm" in first
    assert "on its own frame" in first
    dialog.get_by_label("Block").select_option(index=2)
    dialog.get_by_label("Head").select_option("1")
    page.locator(".spacetime-patches canvas[data-asked='2,1,6']").wait_for()
    assert dialog.inner_text() != first
    canvas.press("ArrowUp")
    page.locator(".spacetime-patches canvas[data-asked='2,1,2']").wait_for()
    here = page.evaluate(PIXELS)
    dialog.get_by_label("Latent frame", exact=True).press("End")
    assert page.evaluate(PIXELS) != here, "other frames are attended to as well"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
