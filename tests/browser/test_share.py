"""Saved files carry their workflow and what it was made with; dropped into the editor they bring it back."""

import base64
import subprocess

import pytest

pytestmark = pytest.mark.browser

SIZE = {"width": 64, "height": 48, "seconds": 0.75, "fps": 12.0, "batch": 1}
DECODE = {"fps": 12.0, "output": "images and video"}
PROMPT = {
    "1": {"class_type": "SpacetimeLoadCheckpoint", "inputs": {"checkpoint": "spacetime-toy", "dtype": "auto"}},
    "2": {"class_type": "SpacetimeEmptyVideo", "inputs": {"vae": ["1", 2], **SIZE}},
    "3": {"class_type": "SpacetimeVAEDecode", "inputs": {"vae": ["1", 2], "latent": ["2", 0], **DECODE}},
    "4": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["3", 1], "filename_prefix": "s", "format": "mp4", "codec": "h264"},
    },
    "5": {
        "class_type": "SaveWEBM",
        "inputs": {"images": ["3", 0], "filename_prefix": "s", "codec": "vp9", "fps": 12.0, "crf": 32.0},
    },
    "6": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "s"}},
    "7": {
        "class_type": "SaveAnimatedWEBP",
        "inputs": {
            "images": ["3", 0],
            "filename_prefix": "s",
            "fps": 12.0,
            "lossless": True,
            "quality": 80,
            "method": "default",
        },
    },
    "8": {
        "class_type": "SaveAnimatedPNG",
        "inputs": {"images": ["3", 0], "filename_prefix": "s", "fps": 12.0, "compress_level": 4},
    },
}
# the browser's own event, with a file in the hand: what the editor gets when somebody lets go of it over the canvas
DROP = """async ([name, text, type]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
  const dataTransfer = new DataTransfer()
  dataTransfer.items.add(new File([bytes], name, {type}))
  await app.loadGraphData({nodes: [], links: [], groups: [], version: 0.4, extra: {}})
  const at = {clientX: innerWidth / 2, clientY: innerHeight / 2, bubbles: true, cancelable: true, dataTransfer}
  for (const kind of ['dragenter', 'dragover', 'drop']) app.canvas.canvas.dispatchEvent(new DragEvent(kind, at))
}"""
TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".png": "image/png", ".webp": "image/webp"}


@pytest.fixture(scope="module")
def saved(host):
    """All kinds of files of one run, by the node that saved them."""
    workflow = {
        "last_node_id": 9,
        "last_link_id": 0,
        "nodes": [
            {
                "id": 1,
                "type": "SpacetimeLoadCheckpoint",
                "pos": [10, 20],
                "size": [280, 120],
                "flags": {},
                "order": 0,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "properties": {},
                "widgets_values": ["spacetime-toy", "auto"],
            }
        ],
        "links": [],
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }
    result = host.client.run(PROMPT, workflow=workflow)
    files = {}
    for key, output in result.outputs.items():
        one = output["images"][0]
        files[key] = host.base / "output" / one["subfolder"] / one["filename"]
    return files


@pytest.mark.parametrize("node", ["4", "5", "6", "7", "8"], ids=lambda key: PROMPT[key]["class_type"])
def test_a_dropped_file_brings_its_workflow_back(saved, classic_editor, node):
    path = saved[node]
    text = base64.b64encode(path.read_bytes()).decode()
    page = classic_editor.page
    page.evaluate(DROP, [path.name, text, TYPES[path.suffix]])
    page.wait_for_function("() => app.graph.nodes.some((one) => one.type === 'SpacetimeLoadCheckpoint')")
    record = page.evaluate("app.graph.extra.spacetime")
    (weights,) = record["weights"]
    assert (weights["name"], weights["folder"]) == ("spacetime-toy", "spacetime")
    assert weights["from"] == "comes with the pack"
    assert record["version"].count(".") == 2


def test_the_record_is_the_files_own_checksum(host):
    (weights,) = host.client.get_json('/spacetime/made_with?names=["spacetime-toy"]')["weights"]
    path = host.base / "custom_nodes" / "spacetime" / "models" / "weights" / "spacetime-toy.safetensors"
    said = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    assert weights["sha256"] == said
    assert weights["size"] == path.stat().st_size


CHANGED = """async (extra) => {
  const workflow = await (await fetch('/api/workflow_templates/spacetime/text_to_video.json')).json()
  workflow.extra = {...workflow.extra, spacetime: extra}
  await app.loadGraphData(workflow)
  app.extensionManager.sidebarTab.activeSidebarTabId === 'spacetime-needs' ||
    app.extensionManager.command.execute('Spacetime.Needs')
}"""


def test_what_is_missing_or_differs_stands_in_one_panel(editor):
    editor.page.evaluate(
        CHANGED,
        {
            "version": "99.0.0",
            "weights": [
                {
                    "name": "gone.safetensors",
                    "folder": "vae",
                    "size": 5_000_000,
                    "sha256": "00",
                    "from": "https://x.invalid/gone",
                },
                {"name": "spacetime-toy", "folder": "spacetime", "size": 5, "sha256": "0" * 64, "from": None},
            ],
        },
    )
    panel = editor.page.locator('.spacetime-needs[data-found="3"]')
    panel.wait_for(state="visible")
    text = panel.inner_text()
    for part in (
        "Made with Spacetime 99.0.0; here is",
        "gone.safetensors (5 MB) is not here",
        "models/vae",
        "spacetime-toy is another file",
        "https://x.invalid/gone",
    ):
        assert part in text


def test_a_run_writes_the_record_into_the_open_workflow_and_is_no_step_to_undo(classic_editor):
    page = classic_editor.page
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'share')", {key: PROMPT[key] for key in "1236"})
    page.wait_for_timeout(300)
    classic_editor.press_run(120)
    page.wait_for_function("() => app.graph.extra.spacetime?.weights.length === 1")
    known = "app.extensionManager.workflow.activeWorkflow.changeTracker.activeState.extra.spacetime"
    assert page.evaluate(known) == page.evaluate("app.graph.serialize().extra.spacetime")
