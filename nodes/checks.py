"""What every node checks before it works, and how the errors of libraries are told to people.

ComfyUI checks types of links and ranges of widgets, but not values that come over a link, not values written into a
prompt where a link belongs, and before 0.8 not the choices of a list.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..models.remedies import cut

SHOWN = 60  # characters of a value in an error


def check_inputs(node: Any, given: Mapping[str, Any]) -> None:
    """ValueError for a value that its input cannot take, in one sentence with the value and what is possible."""
    schema = node.define_schema()
    for one in schema.inputs:
        if one.id not in given or (one.optional and given[one.id] is None):
            continue
        value = given[one.id]
        for single in value if schema.is_input_list and isinstance(value, list) else [value]:
            _check_value(one, single, listed=one.id in node.FILES)


def _check_value(one: Any, value: object, *, listed: bool) -> None:
    """The same for one input; listed: its loader says what is missing in a list of files."""
    kind = one.get_io_type()
    if kind == "COMBO":
        if not listed and value not in one.options:
            raise ValueError(f"{one.id} is {shown(value)}: use one of {', '.join(map(str, one.options))}")
    elif kind in ("INT", "FLOAT"):
        _check_number(one.id, value, one.min, one.max)
    elif kind in PLAIN:
        expected, words = PLAIN[kind]
        if not isinstance(value, expected):
            raise ValueError(f"{one.id} is {shown(value)}: it must be {words}")
    elif not any(_fits(single, value) for single in kind.split(",")):
        wanted = " or ".join(kind.split(","))
        raise ValueError(f"{one.id} is {shown(value)}: connect an output of the type {wanted}")


PLAIN: dict[str, tuple[type, str]] = {"STRING": (str, "a text"), "BOOLEAN": (bool, "true or false")}


def _check_number(name: str, value: object, low: float | None, high: float | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {shown(value)}: it must be a number")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} is {shown(value)}: use {low:g} to {high:g}")


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def _is_conditioning(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], Mapping) for entry in value
    )


SOCKETS: dict[str, Callable[[Any], bool]] = {
    "LATENT": lambda value: isinstance(value, Mapping) and hasattr(value.get("samples"), "shape"),
    "IMAGE": lambda value: isinstance(value, Tensor) and value.ndim == 4 and value.numel() > 0,
    "MASK": lambda value: isinstance(value, Tensor) and value.numel() > 0,
    "SIGMAS": lambda value: isinstance(value, Tensor) and value.ndim == 1,
    "MODEL": _has("clone", "model_options", "get_model_object"),
    "CLIP": _has("tokenize"),
    "CONDITIONING": _is_conditioning,
    "NOISE": _has("generate_noise"),
    "GUIDER": _has("sample"),
    "SAMPLER": _has("sample"),
}


def _fits(kind: str, value: object) -> bool:
    """Whether a value can be what travels on a socket; of other packs' sockets only that it is no plain value."""
    if kind in SOCKETS:
        return SOCKETS[kind](value)
    return value is not None and not isinstance(value, str | int | float | bytes | list | tuple | dict)


def shown(value: object) -> str:
    """A value in an error: short, and the shape of tensors instead of their numbers."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


# what torch and einops say when sizes disagree; other errors of theirs are faults of ours and stay as they are
SIZES = (
    "stack expects each tensor",
    "Sizes of tensors must match",
    "size of tensor",
    "must match the size",
    "size of input",
    "is invalid for input",
    "mat1 and mat2",
    "channels, but got",
    "Kernel size",
    "Padding size",
    "Calculated padded",
    "non-empty",
    "expanded size",
    "non-zero size",
    "not broadcastable",
)
REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk",
    errno.EACCES: "give ComfyUI the right to it, or choose another folder",
    errno.EPERM: "give ComfyUI the right to it, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOENT: "check that the file or folder is still there",
    errno.EMFILE: "close other programs, or raise the limit of open files",
}


def sentence(node: Any, given: Mapping[str, Any], error: Exception) -> str:
    """What a foreseeable error of a library means to the person at the node; empty for all others."""
    name = node.define_schema().display_name
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f" ({cut(str(error.filename), 100)})" if error.filename else ""
        return f"{name}: {(error.strerror or 'no access').lower()}{where}: {REMEDIES[error.errno]}"
    if isinstance(error, ZeroDivisionError):
        return f"{name} got something of length 0 among {_listed(given)}: give it at least one frame, clip or step"
    text = cut((str(error).strip() or "no reason given").splitlines()[0], 200)
    from_torch = type(error) is RuntimeError and any(part in text for part in SIZES)
    if from_torch or type(error).__module__.startswith("einops"):
        return f"{name}: {_listed(given)} do not fit each other in size; use what was made for the same video ({text})"
    return ""


def _listed(given: Mapping[str, Any]) -> str:
    """The inputs that have a size, with it."""
    sized = {name: value.get("samples") if isinstance(value, Mapping) else value for name, value in given.items()}
    parts = [f"{name} {tuple(value.shape)}" for name, value in sized.items() if isinstance(value, Tensor)]
    return ", ".join(parts) or "its inputs"
