"""The settings for new nodes name nodes and inputs that there are."""

import re

from comfyui_spacetime.tools.environment import ROOT
from comfyui_spacetime.tools.locales import schemas

SCRIPT = (ROOT / "web" / "js" / "usual_values.js").read_text(encoding="utf-8")
OWN = re.findall(r'^  (Spacetime\w+): \{ widget: "(\w+)"', SCRIPT, re.M)
RUNS = re.findall(r"^  (Spacetime\w+): run,$", SCRIPT, re.M)


def test_every_node_has_the_text_that_its_setting_fills(comfy_host):
    inputs = {one.node_id: {i.id: i for i in one.inputs} for one in schemas()}
    taken = [*OWN, *((node, "name") for node in RUNS)]
    assert len(taken) == len(re.findall(r"^  Spacetime\w+:", SCRIPT, re.M)) > 3
    assert {inputs[node][widget].io_type for node, widget in taken} == {"STRING"}


def test_every_node_that_trains_begins_its_name_alike(comfy_host):
    names = [(one.node_id, i.tooltip) for one in schemas() for i in one.inputs if i.id == "name"]
    assert {node for node, tooltip in names if tooltip.startswith("Name of the run")} == set(RUNS)
