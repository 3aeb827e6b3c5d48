"""A training node in the editor: what it shows survives a reload of the page, during a run and after it."""

import json
import time
import uuid
from pathlib import Path

import pytest

from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.tools.pictures.editor import READY

pytestmark = pytest.mark.browser


def workflow(name: str, steps: int) -> dict:
    """Toy World -> Train VAE."""
    toy = {
        "id": 1,
        "type": "SpacetimeToyWorld",
        "pos": [60, 120],
        "size": [320, 420],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [{"name": "clips", "type": "SPACETIME_CLIPS", "links": [1]}],
        "properties": {},
        "widgets_values": ["32x32x9", 6],
    }
    values = [name, "test", steps, 2, 32, 0.003, 20, 0, "float32", 0.3, 0, 0, 0.5]
    train = {
        "id": 2,
        "type": "SpacetimeTrainVAE",
        "pos": [440, 120],
        "size": [360, 640],
        "flags": {},
        "order": 1,
        "mode": 0,
        "inputs": [{"name": "clips", "type": "SPACETIME_CLIPS", "link": 1}],
        "outputs": [],
        "properties": {},
        "widgets_values": values,
    }
    links = [[1, 1, 0, 2, 0, "SPACETIME_CLIPS"]]
    empty = {"groups": [], "config": {}, "extra": {}, "version": 0.4}
    return {"last_node_id": 2, "last_link_id": 1, "nodes": [toy, train], "links": links, **empty}


# both ways of drawing: the classic canvas keeps loaded pictures on the node, Nodes 2.0 has them in the page
SHOWN = """(id) => {
  const node = app.graph.getNodeById(id)
  const drawn = (node?.imgs ?? []).some((one) => one.naturalWidth > 0)
  const inPage = [...document.querySelectorAll(`[data-node-id="${id}"] img`)].some((one) => one.naturalWidth > 0)
  return LiteGraph.vueNodesMode ? inPage : drawn
}"""
QUEUE = "async () => { await app.queuePrompt(0, 1) }"


def reload(editor) -> None:
    editor.page.wait_for_timeout(1500)  # the editor saves its workflow a moment after a change
    editor.page.reload(wait_until="domcontentloaded")
    editor.page.wait_for_function(READY, timeout=60_000)
    editor.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'SpacetimeTrainVAE')")


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def steps_of(run: Path) -> int:
    checkpoint = run / "checkpoint.safetensors"
    return int(read_tensors(checkpoint)[1]["step"]) if checkpoint.exists() else 0


def idle(host) -> bool:
    queue = host.client.get_json("/queue")
    return not queue["queue_running"] and not queue["queue_pending"]


def test_a_running_training_is_still_seen_after_a_reload_and_continues_when_queued_again(editor, host):
    name = f"reload_{uuid.uuid4().hex[:6]}"
    run = host.base / "output" / "spacetime" / name
    editor.load(workflow(name, 100_000))
    editor.page.evaluate(QUEUE)
    try:
        wait_for((run / "progress.png").exists)
        reload(editor)
        editor.page.wait_for_function(SHOWN, arg=2)
        editor.page.evaluate(
            """() => {
              window.seen = {previews: 0, values: new Set()}
              app.api.addEventListener('b_preview_with_metadata', () => { window.seen.previews += 1 })
              app.api.addEventListener('progress', (event) => window.seen.values.add(event.detail.value))
            }"""
        )
        editor.page.wait_for_function("() => window.seen.previews > 1 && window.seen.values.size > 1")
        editor.page.wait_for_function(SHOWN, arg=2)
    finally:
        editor.page.evaluate("async () => { await app.api.interrupt() }")
        wait_for(lambda: idle(host))
    done = steps_of(run)
    assert done >= 20
    editor.page.evaluate(QUEUE)
    try:
        wait_for(lambda: steps_of(run) > done)
    finally:
        editor.page.evaluate("async () => { await app.api.interrupt() }")
        wait_for(lambda: idle(host))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(row["step"] == 0 and "loss" in row for row in lines) == 1, (
        "the second one went on where the first stopped"
    )


def test_a_finished_training_is_shown_after_a_reload(editor, host):
    name = f"done_{uuid.uuid4().hex[:6]}"
    editor.load(workflow(name, 4))
    editor.press_run(300)
    editor.page.wait_for_function(SHOWN, arg=2)
    editor.page.wait_for_function(SHOWN, arg=1)  # the contact sheet
    reload(editor)
    editor.page.wait_for_function(SHOWN, arg=2)


def test_a_node_whose_run_does_not_exist_stays_empty(classic_editor):
    failed = []
    classic_editor.page.on("requestfailed", lambda request: failed.append(request.url))
    classic_editor.load(workflow("never_begun", 4))
    classic_editor.load(workflow("../../etc", 4))
    classic_editor.page.wait_for_timeout(1500)
    assert classic_editor.page.evaluate("app.nodeOutputs?.['2'] ?? null") is None
    assert not [url for url in failed if "spacetime" in url]
