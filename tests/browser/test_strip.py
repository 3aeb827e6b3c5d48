"""A run is seen while it goes on: two moving pictures on the node that runs, ours or core's."""

import random

import pytest

pytestmark = pytest.mark.browser

SIZE = {"width": 96, "height": 64, "seconds": 0.75, "fps": 12.0, "batch": 1}
PROMPT = {
    "1": {"class_type": "SpacetimeLoadCheckpoint", "inputs": {"checkpoint": "spacetime-toy", "dtype": "auto"}},
    "2": {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **SIZE}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red ball"}},
    "4": {
        "class_type": "SpacetimeGuider",
        "inputs": {
            "model": ["1", 0],
            "positive": ["3", 0],
            "cfg": 1.0,
            "mode": "cfg",
        },
    },
    "5": {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}},
    "6": {"class_type": "SpacetimeScheduler", "inputs": {"steps": 3, "schedule": "linear"}},
    "7": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "8": {
        "class_type": "SpacetimePatchify",
        "inputs": {
            "latent": ["2", 0],
            "patch_frames": 1,
            "patch_height": 2,
            "patch_width": 2,
        },
    },
    "9": {
        "class_type": "SpacetimeForwardDiffusion",
        "inputs": {
            "tokens": ["8", 0],
            "noise": ["5", 0],
            "sigmas": ["6", 0],
        },
    },
    "10": {
        "class_type": "SpacetimeDenoiseStep",
        "inputs": {
            "tokens": ["9", 0],
            "guider": ["4", 0],
            "sampler": ["7", 0],
            "steps": -1,
        },
    },
    "11": {"class_type": "SpacetimeUnpatchify", "inputs": {"tokens": ["10", 0]}},
    "12": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["5", 0],
            "guider": ["4", 0],
            "sampler": ["7", 0],
            "sigmas": ["6", 0],
            "latent_image": ["2", 0],
        },
    },
    "13": {"class_type": "VAEDecode", "inputs": {"samples": ["11", 0], "vae": ["1", 2]}},
    "14": {"class_type": "VAEDecode", "inputs": {"samples": ["12", 0], "vae": ["1", 2]}},
    "15": {"class_type": "PreviewImage", "inputs": {"images": ["13", 0]}},
    "16": {"class_type": "PreviewImage", "inputs": {"images": ["14", 0]}},
}
SHOWN = """(type) => {
  const node = app.graph.nodes.find((one) => one.type === type)
  const widgets = node.widgets?.filter((one) => one.name === 'spacetime_strip') ?? []
  const panel = widgets[0]?.element
  if (!panel?.isConnected || panel.dataset.step !== '3') return null
  const canvases = [...panel.querySelectorAll('canvas')]
  const sums = canvases.map((one) => {
    const data = one.getContext('2d').getImageData(0, 0, one.width, one.height).data
    return [...data].reduce((sum, value) => sum + value, 0)
  })
  return {strips: widgets.length, frames: panel.dataset.frames, sums, height: panel.offsetHeight,
          labels: canvases.map((one) => one.ariaLabel), text: panel.innerText,
          serialized: JSON.stringify(app.graph.serialize()).includes('jpeg')}
}"""


@pytest.mark.parametrize("node", ["SpacetimeDenoiseStep", "SamplerCustomAdvanced"])
def test_guess_and_noisy_state_move_on_the_node(editor, node):
    page = editor.page
    prompt = {**PROMPT, "5": {"class_type": "RandomNoise", "inputs": {"noise_seed": random.randrange(10**9)}}}
    wanted = {"SpacetimeDenoiseStep": "15", "SamplerCustomAdvanced": "16"}[node]
    del prompt[{"15": "16", "16": "15"}[wanted]]
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'strip')", prompt)
    page.wait_for_function("(type) => app.graph.nodes.some((one) => one.type === type)", arg=node)
    page.evaluate(
        "(type) => { app.canvas.selectNode(app.graph.nodes.find((one) => one.type === type)); "
        "app.canvas.fitViewToSelectionAnimated() }",
        node,
    )
    heights = "(type) => app.graph.nodes.find((one) => one.type === type).size[1]"
    editor.press_run()
    shown = page.wait_for_function(SHOWN, arg=node).json_value()
    assert shown["strips"] == 1
    assert shown["frames"] == "3"  # 9 frames are 3 latents
    assert "step 3 of 3" in shown["text"]
    assert "guess" in shown["labels"][0]
    assert not shown["serialized"], "what a run showed is not part of the workflow"
    before = page.evaluate(heights, node)
    page.wait_for_function(f"([type, sum]) => ({SHOWN})(type).sums[0] !== sum", arg=[node, shown["sums"][0]])
    after = page.evaluate(SHOWN, node)
    assert after["height"] == shown["height"]
    assert page.evaluate(heights, node) == before, "nothing jumps while it moves"


def test_who_wants_no_motion_sees_a_still(classic_editor):
    page = classic_editor.page
    page.emulate_media(reduced_motion="reduce")
    jpeg = page.evaluate(
        """() => { const one = document.createElement('canvas'); one.width = 192; one.height = 128
          const pen = one.getContext('2d')
          for (let i = 0; i < 6; i++) {
            pen.fillStyle = `rgb(${i * 40}, 90, 10)`; pen.fillRect((i % 3) * 64, i < 3 ? 0 : 64, 64, 64) }
          return one.toDataURL('image/jpeg').split(',')[1] }"""
    )
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'strip')", {"1": PROMPT["1"]})
    page.wait_for_function("() => app.graph.nodes.length === 1")
    detail = {"node": "1", "step": 3, "total": 3, "jpeg": jpeg, "columns": 3, "rows": 2, "width": 64, "height": 64}
    page.evaluate("(detail) => app.api.dispatchCustomEvent('spacetime.strip', detail)", detail)
    first = page.wait_for_function(SHOWN, arg="SpacetimeLoadCheckpoint").json_value()
    page.wait_for_timeout(500)  # four frames' time
    assert page.evaluate(SHOWN, "SpacetimeLoadCheckpoint")["sums"] == first["sums"]
