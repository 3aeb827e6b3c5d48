"""What no input can take is refused in a sentence: every list, every socket and every number of every node."""

from typing import Any

import pytest
import torch

from comfyui_spacetime.tools.in_process import load_host


def inputs() -> list[Any]:
    """(node, input) for all nodes of the registry."""
    if not load_host():
        return []
    from comfyui_spacetime.nodes import load_nodes

    return [
        pytest.param(node, one, id=f"{node.__name__} {one.id}")
        for node in load_nodes()
        for one in node.define_schema().inputs
    ]


INPUTS = inputs()


def of_kind(*kinds: str) -> list[Any]:
    return [case for case in INPUTS if case.values[1].get_io_type() in kinds]


SOCKETS = [
    case for case in INPUTS if case.values[1].get_io_type() not in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
]


@pytest.mark.parametrize(("node", "one"), of_kind("COMBO"))
def test_an_unknown_choice_is_refused_with_the_list(node, one):
    from comfyui_spacetime.nodes.checks import check_inputs

    if one.id in node.FILES:
        return  # lists of files: what is missing there is said by their loaders
    for wrong in (str(one.options[0]).upper() + " ", "", None, 1):
        with pytest.raises(ValueError, match=f"^{one.id} is .*: use one of") as refused:
            check_inputs(node, {one.id: wrong}) if not (one.optional and wrong is None) else pytest.skip("left out")
        assert all(str(option) in str(refused.value) for option in one.options)
    for right in one.options:
        check_inputs(node, {one.id: right})


@pytest.mark.parametrize(("node", "one"), SOCKETS)
def test_what_is_no_value_of_a_socket_is_refused(node, one):
    from comfyui_spacetime.nodes.checks import check_inputs

    shaped = {"LATENT", "IMAGE", "MASK", "MODEL", "CLIP", "GUIDER", "SAMPLER", "NOISE", "CONDITIONING"}
    wrong: list[Any] = [5, "text", {"a": 1}, [1, 2]]
    wrong += [torch.zeros(0)] if set(one.get_io_type().split(",")) <= shaped else []
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{one.id} is .*: connect an output of the type"):
            check_inputs(node, {one.id: value})


@pytest.mark.parametrize(("node", "one"), of_kind("INT", "FLOAT"))
def test_a_number_over_a_link_keeps_to_the_range_of_its_widget(node, one):
    from comfyui_spacetime.nodes.checks import check_inputs

    wrong = [float("nan"), float("inf"), "3", True]
    wrong += [one.min - 1] if one.min is not None else []
    wrong += [one.max + 1] if one.max is not None else []
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{one.id} is "):
            check_inputs(node, {one.id: value})


@pytest.mark.parametrize(("node", "_one"), INPUTS)
def test_every_node_is_checked(node, _one):
    from comfyui_spacetime.nodes.schema import Node

    assert issubclass(node, Node)
    assert hasattr(node.execute.__func__, "__wrapped__")


def test_foreseeable_errors_become_sentences_and_faults_of_ours_stay(comfy_host):
    from comfy_api.latest import io
    from einops import rearrange

    from comfyui_spacetime.nodes.schema import Node, schema

    def node(work: Any) -> Any:
        class One(Node):
            @classmethod
            def define_schema(cls) -> io.Schema:
                return schema(
                    node_id="One", display_name="One", category="", inputs=[io.Mask.Input("mask")], outputs=[]
                )

            @classmethod
            def execute(cls, mask: torch.Tensor) -> io.NodeOutput:
                return work(mask)

        return One

    mask = torch.ones(2, 3)
    for work in (
        lambda mask: torch.stack([mask, mask[1:]]),
        lambda mask: rearrange(mask, "(a b) c -> a b c", b=5),
        lambda mask: mask + torch.ones(7),
        lambda _mask: 1 // 0,
    ):
        with pytest.raises(ValueError, match=r"^One.*mask \(2, 3\)"):
            node(work).execute(mask)
    with pytest.raises(ValueError, match=r"^a sentence of its own$"):
        node(lambda _: (_ for _ in ()).throw(ValueError("a sentence of its own"))).execute(mask)
    for fault in (AttributeError("x"), KeyError("x"), TypeError("x"), RuntimeError("no such kernel")):
        with pytest.raises(type(fault)):
            node(lambda _, fault=fault: (_ for _ in ()).throw(fault)).execute(mask)
