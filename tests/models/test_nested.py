"""Nested values go through JSON and tensors unchanged; what is no plain data, or of another type, is refused."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import torch

from comfyui_spacetime.models.nested import Apart, digest_of, fits, together


@dataclass(frozen=True)
class Box:
    size: float
    content: torch.Tensor | None = None
    names: tuple[str, ...] = ()


class Pair(NamedTuple):
    left: int
    right: Any


KINDS = {"Box": Box, "Pair": Pair}
VALUES = [
    None,
    True,
    3,
    2**63,
    "text \U0001f40b",
    0.1,
    float("inf"),
    [1, [2.5]],
    (1, (2,)),
    {"a": {1: 2, (3, "b"): None}},
    UUID(int=5),
    torch.device("cpu"),
    torch.bfloat16,
    torch.Size([1, 2]),
    Box(1.5, None, ("a", "b")),
    Pair(1, [2]),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_come_back(value):
    apart = Apart(value, KINDS)
    again = together(json.loads(json.dumps(apart.tree)), apart.tensors, KINDS)
    assert again == value
    assert type(again) is type(value)


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.bool, torch.int64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_come_back_to_the_bit(dtype):
    values = (torch.randn(3, 4) * 3).to(dtype)
    odd = [values, values.t(), values[:, 1], values[0, 0], values[:0], torch.ones(1, 4, dtype=dtype).expand(3, 4)]
    apart = Apart(odd, KINDS)
    for one, other in zip(odd, together(apart.tree, apart.tensors, KINDS), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_equal_tensors_are_kept_once():
    same = torch.randn(2, 6)
    apart = Apart([same, same.clone(), same.reshape(3, 4), same.double()], KINDS)
    assert len(apart.tensors) == 2
    assert digest_of(same) == digest_of(same.clone())


def test_other_things_are_refused_by_place():
    with pytest.raises(ValueError, match=r"it\.a is a object, which a file cannot hold"):
        Apart({"a": object()}, KINDS)


@pytest.mark.parametrize(
    "tree",
    [
        [1],
        {},
        {"a": 1, "b": 2},
        {"odd": 1},
        {"tensor": ["0"]},
        {"tensor": ["0", "x"]},
        {"tensor": ["0", [7]]},
        {"tensor": [["0"], [4]]},
        {"dict": [[{"list": []}, 1]]},
        {"dict": 5},
        {"list": 5},
        {"UUID": "x"},
        {"UUID": []},
        {"device": "moon"},
        {"dtype": "pickle"},
        {"float": "x"},
        {"size": ["x"]},
        {"Box": {"size": 1.0}},
        {"Box": []},
        {"Box": {"size": "1", "content": None, "names": {"tuple": []}}},
        {"Box": {"size": True, "content": None, "names": {"tuple": []}}},
        {"Box": {"size": 1, "content": 3, "names": {"tuple": []}}},
        {"Box": {"size": 1, "content": None, "names": {"tuple": [1]}}},
        {"Pair": {"left": 1.5, "right": None}},
    ],
    ids=repr,
)
def test_trees_that_make_no_sense_are_refused(tree):
    with pytest.raises(ValueError, match=r"."):
        together(tree, {"0": torch.ones(4)}, KINDS)


def test_types():
    assert fits((1, 2, 3), tuple[int, ...])
    assert not fits((1, 2.5), tuple[int, ...])
    assert fits({(1, 0.5): torch.ones(1)}, dict[tuple[int, float], torch.Tensor])
    assert fits([None, 1], list[int | None])
    assert not fits(True, int)
    assert fits(1, float)
