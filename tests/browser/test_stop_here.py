"""A long stream is stopped by the button on its node: what it has made goes on to the node after it."""

import random

import pytest

from .test_strip import PROMPT, SIZE

pytestmark = pytest.mark.browser

LONG = {
    "guider": ["4", 0],
    "sampler": ["7", 0],
    "sigmas": ["6", 0],
    "noise": ["5", 0],
    "latent": ["2", 0],
    "vae": ["1", 2],
    "seconds": 300.0,
}
BUTTON = """(disabled) => {
  const found = document.querySelectorAll('.spacetime-stop')
  return found.length === 1 && found[0].disabled === disabled
}"""

LOOK = """() => {
  const node = app.graph.nodes.find((one) => one.type === 'SpacetimeStreamVideo')
  app.canvas.ds.scale = 0.6
  app.canvas.ds.offset = [200 - node.pos[0], 120 - node.pos[1]]
  app.canvas.setDirty(true, true)
}"""


def test_a_stream_is_stopped_by_its_button(editor):
    page = editor.page
    prompt = {key: PROMPT[key] for key in ("1", "2", "3", "4", "6", "7")}
    prompt["2"] = {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **SIZE, "width": 32, "height": 32}}
    prompt["5"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": random.randrange(10**9)}}
    prompt["8"] = {"class_type": "SpacetimeStreamVideo", "inputs": LONG}
    prompt["9"] = {"class_type": "SaveVideo", "inputs": {"video": ["8", 0], "filename_prefix": "stopped"}}
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'stop')", prompt)
    page.wait_for_function("() => app.graph.nodes.length === 9")
    page.evaluate(LOOK)
    with page.expect_response(lambda answer: "/spacetime/stop" in answer.url) as asked:
        page.get_by_test_id("queue-button").click()
        page.wait_for_function(BUTTON, arg=False)
        page.get_by_role("button", name="Stop here").click()
    assert asked.value.request.method == "POST"
    assert asked.value.json() == {"stopping": ["8"]}
    page.wait_for_function("() => app.nodeOutputs['9']?.images?.length || app.nodeOutputs['9']?.video?.length")
    page.wait_for_function(BUTTON, arg=True)
    assert page.locator(".spacetime-stop").inner_text() == "Stop here"
    assert "spacetime_stop" not in str(page.evaluate("() => JSON.stringify(app.graph.serialize())"))
    assert editor.prompt()["8"]["inputs"].keys() >= LONG.keys()
