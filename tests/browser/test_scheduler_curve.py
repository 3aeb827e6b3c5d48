"""The Scheduler node draws its schedule: while settings change, and what a run used."""

import random

import pytest

WORKFLOW = {
    "version": 0.4,
    "last_node_id": 3,
    "last_link_id": 2,
    "nodes": [
        {
            "id": 1,
            "type": "SpacetimeScheduler",
            "pos": [420, 120],
            "size": [300, 330],
            "flags": {},
            "order": 1,
            "mode": 0,
            "inputs": [{"name": "video", "type": "LATENT,SPACETIME_TOKENS", "link": 2}],
            "outputs": [{"name": "sigmas", "type": "SIGMAS", "links": [1]}],
            "properties": {},
            "widgets_values": ["beta", 20, "fixed", 3.0, 1.0, 1.0],
        },
        {
            "id": 2,
            "type": "PreviewAny",
            "pos": [800, 120],
            "size": [300, 200],
            "flags": {},
            "order": 2,
            "mode": 0,
            "inputs": [{"name": "source", "type": "*", "link": 1}],
            "outputs": [],
            "properties": {},
            "widgets_values": [],
        },
        {
            "id": 3,
            "type": "EmptyLatentImage",
            "pos": [60, 120],
            "size": [270, 106],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "LATENT", "type": "LATENT", "links": [2]}],
            "properties": {},
            "widgets_values": [512, 512, 1],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "SIGMAS"], [2, 3, 0, 1, 0, "LATENT"]],
    "groups": [],
    "config": {},
    "extra": {},
}
CURVE = ".spacetime-curve"


def set_widget(editor, name, value):
    """Change a setting as the user's hand does: value, then callback."""
    editor.page.evaluate(
        """([name, value]) => {
          const node = app.graph.nodes.find((n) => n.type === 'SpacetimeScheduler')
          const widget = node.widgets.find((w) => w.name === name)
          widget.value = value
          widget.callback?.(value)
        }""",
        [name, value],
    )


def expect_points(editor, count):
    editor.page.locator(f'{CURVE}[data-points="{count}"]').wait_for(state="visible", timeout=10_000)


@pytest.mark.browser
def test_the_curve_follows_the_settings_and_the_run(editor, tmp_path):
    editor.load(WORKFLOW)
    expect_points(editor, 21)
    set_widget(editor, "steps", 8)
    expect_points(editor, 9)
    assert editor.page.locator(f"{CURVE} polyline").count() == 1
    # a value of its own, or the host would answer from its cache and tell the upstream node nothing
    shift = random.randint(200, 9000) / 100
    set_widget(editor, "shift", shift)
    set_widget(editor, "shift_rule", "auto_sqrt")
    expect_points(editor, 0)
    assert "after a run" in editor.page.locator(CURVE).inner_text()

    editor.press_run()
    expect_points(editor, 9)
    assert "shift 1 for 1024 tokens" in editor.page.locator(CURVE).inner_text()
    editor.screenshot(tmp_path / "curve.png")

    prompt = editor.prompt()["1"]["inputs"]
    assert set(prompt) == {"schedule", "steps", "shift_rule", "shift", "denoise", "sigma_max", "video"}
    saved = editor.page.evaluate(
        "app.graph.serialize().nodes.find((n) => n.type === 'SpacetimeScheduler').widgets_values"
    )
    assert saved == ["beta", 8, "auto_sqrt", shift, 1, 1]


CONNECT = """(connected) => {
  const scheduler = app.graph.nodes.find((n) => n.type === 'SpacetimeScheduler')
  const slot = scheduler.inputs.findIndex((input) => input.name === 'model')
  if (!connected) return scheduler.disconnectInput(slot)
  const loader = LiteGraph.createNode('SpacetimeLoadCheckpoint')
  app.graph.add(loader)
  loader.connect(0, scheduler, slot)
}"""


@pytest.mark.browser
def test_what_is_left_to_the_model_is_drawn_as_far_as_it_is_known(editor):
    editor.load(WORKFLOW)
    expect_points(editor, 21)
    set_widget(editor, "steps", 0)
    set_widget(editor, "shift", 0)
    expect_points(editor, 25)
    assert "as for spacetime-toy" in editor.page.locator(CURVE).inner_text()
    editor.page.evaluate(CONNECT, True)
    expect_points(editor, 0)
    assert "settings of the model" in editor.page.locator(CURVE).inner_text()
    set_widget(editor, "steps", 6)
    set_widget(editor, "shift", 2)
    expect_points(editor, 7)
    set_widget(editor, "steps", 0)
    expect_points(editor, 0)
    editor.page.evaluate(CONNECT, False)
    expect_points(editor, 25)


@pytest.mark.browser
def test_the_curve_lies_inside_its_node(editor):
    editor.load(WORKFLOW)
    expect_points(editor, 21)
    inside = editor.page.evaluate(
        """() => {
          const node = app.graph.nodes.find((n) => n.type === 'SpacetimeScheduler')
          const box = document.querySelector('.spacetime-curve').getBoundingClientRect()
          const scale = app.canvas.ds.scale
          const top = (node.pos[1] + app.canvas.ds.offset[1]) * scale
          return {height: box.height / scale, below: (box.bottom - top) / scale - node.size[1]}
        }"""
    )
    assert inside["height"] > 60
    assert inside["below"] < 60  # the canvas itself begins below the menu bar
