"""Editor JSON to API prompt, on workflows small enough to see the answer."""

import pytest

from comfyui_spacetime.tools.edits import apply_settings, mirror
from comfyui_spacetime.tools.terminal import Trouble
from comfyui_spacetime.tools.workflow import to_prompt

SUBGRAPH = "0f8b0e0a-1111-4222-8333-444455556666"
INT = {"default": 1, "min": 0, "max": 100}


def node_class(required, outputs, **more):
    return {"input": {"required": required, **more}, "output": outputs, "display_name": "", "output_node": not outputs}


OBJECTS = {
    "Source": node_class(
        {"width": ["INT", INT], "seed": ["INT", INT], "mode": [["fast", "slow"], {}]},
        ["IMAGE"],
        optional={"note": ["STRING", {}]},
    ),
    "Blur": node_class({"image": ["IMAGE"], "radius": ["INT", INT]}, ["IMAGE"]),
    "Mix": node_class({"a": ["IMAGE"], "b": ["IMAGE"]}, ["IMAGE"]),
    "Save": node_class({"image": ["IMAGE"], "prefix": ["STRING", {"default": "x"}]}, []),
}


def node(key, kind, inputs=(), values=None, **more):
    """A node as the editor saves it; `inputs` are (name, type, link) with a fourth entry for widgets."""
    slots = [
        {"name": one[0], "type": one[1], "link": one[2], **({"widget": {"name": one[0]}} if len(one) > 3 else {})}
        for one in inputs
    ]
    outputs = [{"name": "out", "type": "IMAGE", "links": []}]
    return {"id": key, "type": kind, "inputs": slots, "outputs": outputs, "widgets_values": values, "mode": 0, **more}


def workflow(nodes, links, **more):
    return {"nodes": nodes, "links": links, "version": 0.4, **more}


def source(key=1, **more):
    return node(key, "Source", values=[64, 7, "randomize", "slow", "hello"], **more)


def test_widget_values_find_their_inputs_past_the_seeds_control():
    prompt = to_prompt(workflow([source()], []), OBJECTS)
    assert prompt["1"]["inputs"] == {"width": 64, "seed": 7, "mode": "slow", "note": "hello"}


def test_a_seed_without_a_control_keeps_the_order():
    prompt = to_prompt(workflow([node(1, "Source", values=[64, 7, "slow"])], []), OBJECTS)
    assert prompt["1"]["inputs"] == {"width": 64, "seed": 7, "mode": "slow", "note": ""}


def test_a_choice_brings_fields_of_its_own():
    """As the host's Start Loop and, in newer hosts, Save Video: what is chosen decides which values follow."""
    quality = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "own", "inputs": {"required": {"crf": ["INT", INT]}}}]}]
    options = [
        {"key": "times", "inputs": {"required": {"count": ["INT", INT]}}},
        {"key": "each", "inputs": {"required": {"items": ["*", {}]}}},
        {"key": "best", "inputs": {"required": {"quality": quality}, "optional": {"slow": ["BOOLEAN", {}]}}},
    ]
    loop = node_class({"mode": ["COMFY_DYNAMICCOMBO_V3", {"options": options}], "cached": ["BOOLEAN", {}]}, ["*"])

    def inputs(*values):
        shown = [("mode", "COMFY_DYNAMICCOMBO_V3", None, "widget"), ("cached", "BOOLEAN", None, "widget")]
        graph = workflow([node(1, "Loop", shown, list(values))], [])
        prompt = to_prompt(graph, {"Loop": loop})
        assert mirror(graph, prompt, {"Loop": loop})["nodes"][0]["widgets_values"] == list(values)
        return prompt["1"]["inputs"]

    assert inputs("times", 7, True) == {"mode": "times", "mode.count": 7, "cached": True}
    assert inputs("each", True) == {"mode": "each", "cached": True}
    best = {"mode": "best", "mode.quality": "own", "mode.quality.crf": 20, "mode.slow": True, "cached": False}
    assert inputs("best", "own", 20, True, False) == best
    prompt = {"1": {"class_type": "Loop", "inputs": best}}
    apply_settings(prompt, ["Loop.mode.quality.crf=25", "1.mode.slow=no"], {"Loop": loop})
    assert prompt["1"]["inputs"] == best | {"mode.quality.crf": 25, "mode.slow": False}


def test_links_become_references():
    nodes = [source(), node(2, "Save", [("image", "IMAGE", 1)], ["out"])]
    prompt = to_prompt(workflow(nodes, [[1, 1, 0, 2, 0, "IMAGE"]]), OBJECTS)
    assert prompt["2"]["inputs"] == {"prefix": "out", "image": ["1", 0]}


def test_reroutes_and_notes_disappear():
    nodes = [
        source(),
        node(5, "Reroute", [("", "*", 1)]),
        node(6, "Reroute", [("", "*", 2)]),
        node(7, "Note", values=["text"]),
        node(2, "Save", [("image", "IMAGE", 3)], ["out"]),
    ]
    links = [[1, 1, 0, 5, 0, "*"], [2, 5, 0, 6, 0, "*"], [3, 6, 0, 2, 0, "*"]]
    prompt = to_prompt(workflow(nodes, links), OBJECTS)
    assert set(prompt) == {"1", "2"}
    assert prompt["2"]["inputs"]["image"] == ["1", 0]


def test_a_primitive_gives_its_value():
    nodes = [
        node(9, "PrimitiveNode", values=[33, "fixed"]),
        node(1, "Source", [("width", "INT", 1, "widget")], [64, 7, "fixed", "fast", ""]),
    ]
    prompt = to_prompt(workflow(nodes, [[1, 9, 0, 1, 0, "INT"]]), OBJECTS)
    assert prompt["1"]["inputs"]["width"] == 33
    assert set(prompt) == {"1"}


def test_a_bypassed_node_hands_its_input_on():
    nodes = [
        source(),
        node(3, "Blur", [("image", "IMAGE", 1)], [4], mode=4),
        node(2, "Save", [("image", "IMAGE", 2)], ["out"]),
    ]
    prompt = to_prompt(workflow(nodes, [[1, 1, 0, 3, 0, "IMAGE"], [2, 3, 0, 2, 0, "IMAGE"]]), OBJECTS)
    assert set(prompt) == {"1", "2"}
    assert prompt["2"]["inputs"]["image"] == ["1", 0]


def test_a_muted_node_vanishes_with_its_links():
    nodes = [source(mode=2), source(4), node(2, "Mix", [("a", "IMAGE", 1), ("b", "IMAGE", 2)])]
    prompt = to_prompt(workflow(nodes, [[1, 1, 0, 2, 0, "IMAGE"], [2, 4, 0, 2, 1, "IMAGE"]]), OBJECTS)
    assert set(prompt) == {"2", "4"}
    assert prompt["2"]["inputs"] == {"b": ["4", 0]}


def subgraph_workflow(**instance):
    """Source -> [Blur inside a subgraph, its radius promoted to the outside] -> Save."""
    inside = {
        "id": SUBGRAPH,
        "inputs": [{"id": "i0", "name": "image", "type": "IMAGE"}, {"id": "i1", "name": "radius", "type": "INT"}],
        "outputs": [{"id": "o0", "name": "out", "type": "IMAGE"}],
        "nodes": [node(4, "Blur", [("image", "IMAGE", 1), ("radius", "INT", 2, "widget")], [3])],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 4, "target_slot": 0, "type": "IMAGE"},
            {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 4, "target_slot": 1, "type": "INT"},
            {"id": 3, "origin_id": 4, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"},
        ],
    }
    nodes = [
        source(),
        node(8, SUBGRAPH, [("image", "IMAGE", 1), ("radius", "INT", None, "widget")], **{"values": [5], **instance}),
        node(2, "Save", [("image", "IMAGE", 2)], ["out"]),
    ]
    links = [[1, 1, 0, 8, 0, "IMAGE"], [2, 8, 0, 2, 0, "IMAGE"]]
    return workflow(nodes, links, definitions={"subgraphs": [inside]})


def test_a_subgraph_is_unfolded_with_the_value_set_outside():
    prompt = to_prompt(subgraph_workflow(), OBJECTS)
    assert prompt["8:4"]["inputs"] == {"radius": 5, "image": ["1", 0]}
    assert prompt["2"]["inputs"]["image"] == ["8:4", 0]
    assert set(prompt) == {"1", "2", "8:4"}


def test_a_subgraph_without_outside_values_keeps_the_inner_ones():
    assert to_prompt(subgraph_workflow(values=[]), OBJECTS)["8:4"]["inputs"]["radius"] == 3


def test_a_bypassed_subgraph_hands_its_input_on():
    prompt = to_prompt(subgraph_workflow(mode=4), OBJECTS)
    assert set(prompt) == {"1", "2"}
    assert prompt["2"]["inputs"]["image"] == ["1", 0]


def test_a_muted_subgraph_vanishes():
    prompt = to_prompt(subgraph_workflow(mode=2), OBJECTS)
    assert set(prompt) == {"1", "2"}
    assert "image" not in prompt["2"]["inputs"]


def test_unknown_nodes_are_named():
    with pytest.raises(Trouble, match="Nonsense"):
        to_prompt(workflow([node(1, "Nonsense")], []), OBJECTS)


@pytest.mark.parametrize("content", [[], {}, {"a": 1}, {"nodes": 3}, "text"])
def test_what_is_no_workflow_is_refused(content):
    with pytest.raises(Trouble, match="no workflow"):
        to_prompt(content, OBJECTS)


def test_the_api_format_passes_through():
    prompt = {"1": {"class_type": "Source", "inputs": {"width": 3}}}
    assert to_prompt(prompt, OBJECTS) == prompt


@pytest.mark.parametrize("target", ["1.width", "Source.width", "source.width", "My title.width", "v1.5 source.width"])
def test_settings_find_nodes_by_id_class_and_title(target):
    title = "v1.5 source" if "1.5" in target else "My title"
    prompt = to_prompt(workflow([source(title=title)], []), OBJECTS)
    apply_settings(prompt, [f"{target}=96"], OBJECTS)
    assert prompt["1"]["inputs"]["width"] == 96


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("1.width=wide", "wants a number"),
        ("1.height=3", "has no input 'height'"),
        ("Nothing.width=3", "No node 'Nothing'"),
        ("width=3", "NODE.INPUT=VALUE"),
        ("Source.width=3", "names 2 nodes"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(setting, reason):
    prompt = to_prompt(workflow([source(), source(3)], []), OBJECTS)
    with pytest.raises(Trouble, match=reason):
        apply_settings(prompt, [setting], OBJECTS)


def test_the_editors_fields_follow_the_settings():
    original = workflow([source()], [])
    prompt = to_prompt(original, OBJECTS)
    apply_settings(prompt, ["1.width=96", "1.note=changed"], OBJECTS)
    shown = mirror(original, prompt, OBJECTS)
    assert shown["nodes"][0]["widgets_values"] == [96, 7, "randomize", "slow", "changed"]
    assert to_prompt(shown, OBJECTS) == prompt
    assert original["nodes"][0]["widgets_values"][0] == 64
