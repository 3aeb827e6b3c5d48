"""From a file to what it describes, and from a config and weights to a network, in one way for all our files.

Nothing is allocated before all shapes agree.

The network is first built on torch's meta device, which holds shapes without memory, so that a small file with a large
config costs neither memory nor time; then the file's weights become its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .files import parsed_json, read_tensors
from .remedies import cut

Module = TypeVar("Module", bound=nn.Module)
Described = TypeVar("Described")
AGAIN = "the file is damaged or was made by another version of the pack; download or train it again"


def read_described(
    path: Path,
    entry: str,
    foreign: Callable[[Mapping[str, Tensor]], str],
    advice: str,
    described: Callable[[Mapping[str, Any], dict[str, Tensor]], Described],
    check: Callable[[Described], None],
) -> Described:
    """What a safetensors file of ours holds, which the JSON in an `entry` of its header describes.

    described: makes it of that JSON and the weights; check: looks at the weights. Both raise ValueError, which becomes
    one sentence with the file's name and, for the header, `advice`. foreign: the sentence for a file without the entry.
    """
    tensors, header = read_tensors(path)
    if entry not in header:
        raise ValueError(f"{path.name} {foreign(tensors)}")
    said = parsed_json(header[entry], f"the header of {path.name}", dict, advice=advice, nan=True)
    try:
        made = described(said, tensors)
    except ValueError as error:
        raise ValueError(f"the header of {path.name} cannot be used ({cut(str(error))}): {advice}") from error
    try:
        check(made)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return made


def check_format(header: Mapping[str, Any], format_: int) -> None:
    """ValueError for a header of another version."""
    if header.get("format") != format_:
        raise ValueError(f"format {cut(header.get('format'), 40)}, this version reads format {format_}")


def fitting(kind: Callable[[Any], Module], config: Any, state: Mapping[str, Tensor], name: str) -> Module:  # noqa: ANN401
    """The network of a config on the meta device, without memory. ValueError unless `state` has just its weights.

    name: what the network is called in the error.
    """
    layers = sum(_numbers(value) for key, value in asdict(config).items() if "depth" in key)
    if layers > len(state):  # each layer has weights: so many need not even be counted out
        raise ValueError(f"the {name} should have {layers} layers, but there are {len(state)} weights: {AGAIN}")
    with torch.device("meta"):
        network = kind(config)
    compare(network, state, name)
    return network


def _numbers(value: Any) -> int:  # noqa: ANN401
    return sum(value) if isinstance(value, tuple) else int(value)


def compare(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """ValueError that names the weights that are missing, unknown, of another shape, or no numbers to compute with."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & state.keys() if tuple(state[key].shape) != expected[key])
    kinds = sorted(key for key in expected.keys() & state.keys() if not state[key].is_floating_point())
    for keys, what in (
        (missing, "are missing"),
        (unknown, "are unknown"),
        (wrong, "have another shape"),
        (kinds, "are no floating-point numbers"),
    ):
        if keys:
            raise ValueError(
                f"the {name} does not fit its config, {len(keys)} weights {what} (first: {cut(keys[0], 80)}): {AGAIN}"
            )


def check_finite(state: Mapping[str, Tensor], name: str) -> None:
    """ValueError that names the first weights that are not finite numbers."""
    for key, value in state.items():
        if value.is_floating_point() and value.numel() and not _is_finite(value):
            raise ValueError(
                f"the {name} holds weights that are no finite numbers (first: {cut(key, 80)}): its training went "
                "astray, or the file is damaged; take an earlier checkpoint, or download it again"
            )


def _is_finite(value: Tensor) -> bool:
    if value.element_size() == 1:  # float8 cannot be added up
        value = value.float()
    # one sum is the fastest look at all of them; only where it is not finite, which a sum of finite numbers may be too,
    # they are looked at one by one
    return math.isfinite(value.sum()) or bool(value.isfinite().all())


def built(
    kind: Callable[[Any], Module],
    config: Any,  # noqa: ANN401
    state: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype = torch.float32,
) -> Module:
    """The network of a config with a copy of these weights, in evaluation mode. ValueError unless they fit."""
    network = fitting(kind, config, state, name)
    weights = {key: value.to(torch.float32, copy=True).to(dtype) for key, value in state.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()
