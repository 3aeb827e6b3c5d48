"""Nested values as JSON and tensors, and back: how a dataclass full of tensors lies in a safetensors file.

Nothing but plain data comes back: numbers, texts, tensors, containers, and the classes that the reader names. Equal
tensors are kept once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import torch
from torch import Tensor

from .remedies import cut

Kinds = Mapping[str, type]  # dataclasses and named tuples that may occur, by the name they have in the file
DTYPES = {str(one).removeprefix("torch."): one for one in vars(torch).values() if isinstance(one, torch.dtype)}

SINGLE: dict[str, Callable[[str], Any]] = {
    "UUID": UUID,
    "device": torch.device,
    "dtype": DTYPES.__getitem__,
    "float": float,
}


class Apart:
    """A value taken apart: `tree` is its JSON, `tensors` what it refers to by name. ValueError for other things."""

    def __init__(self, value: object, kinds: Kinds) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names = {kind: name for name, kind in kinds.items()}
        self._seen: dict[tuple[torch.dtype, bytes], str] = {}
        self.tree = self._part(value, "it")

    def _part(self, value: object, where: str) -> Any:  # noqa: ANN401 - any JSON
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Tensor):
            return {"tensor": [self._kept(value), list(value.shape)]}
        if type(value) in self._names:
            parts = {name: self._part(getattr(value, name), f"{where}.{name}") for name in names_of(type(value))}
            return {self._names[type(value)]: parts}
        if isinstance(value, Mapping):
            pairs = value.items()
            return {"dict": [[self._part(k, f"a key of {where}"), self._part(v, f"{where}.{k}")] for k, v in pairs]}
        if isinstance(value, torch.Size):
            return {"size": list(value)}
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return {type(value).__name__: [self._part(one, where) for one in value]}
        if isinstance(value, UUID | torch.device):
            return {type(value).__name__: str(value)}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        raise ValueError(f"{where} is a {type(value).__name__}, which a file cannot hold: leave it out")

    def _kept(self, tensor: Tensor) -> str:
        plain = tensor.detach().cpu().contiguous()
        key = (plain.dtype, digest_of(plain))
        if key not in self._seen:
            self._seen[key] = str(len(self._seen))
            self.tensors[self._seen[key]] = plain.clone()  # safetensors takes no two views of one storage
        return self._seen[key]


def digest_of(tensor: Tensor) -> bytes:
    """The sha256 of a tensor's numbers (CPU, contiguous)."""
    flat = tensor.reshape(-1)
    if flat.stride() != (1,):  # single numbers may have any
        flat = torch.empty(flat.shape, dtype=flat.dtype).copy_(flat)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def together(tree: Any, tensors: Mapping[str, Tensor], kinds: Kinds) -> Any:  # noqa: ANN401 - any JSON
    """What Apart took apart. ValueError for a tree that it cannot have made, and for fields of other types."""
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if not isinstance(tree, dict) or len(tree) != 1:
        raise ValueError(f"{cut(tree, 40)} is no value")
    ((kind, inner),) = tree.items()
    if kind in kinds:
        return _made(kind, kinds[kind], inner, tensors, kinds)
    try:
        return _plain(kind, inner, tensors, kinds)
    except (TypeError, RuntimeError, KeyError, OverflowError) as error:
        raise ValueError(f"{cut(tree, 40)} is no value") from error


def _plain(kind: str, inner: Any, tensors: Mapping[str, Tensor], kinds: Kinds) -> Any:  # noqa: ANN401
    if kind == "tensor":
        name, shape = inner
        return tensors[name].reshape(shape)
    if kind in ("list", "tuple"):
        parts = [together(one, tensors, kinds) for one in inner]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {together(key, tensors, kinds): together(value, tensors, kinds) for key, value in inner}
    if kind == "size":
        return torch.Size(inner)
    if not isinstance(inner, str):
        raise TypeError(kind)
    return SINGLE[kind](inner)


def _made(name: str, kind: type, inner: object, tensors: Mapping[str, Tensor], kinds: Kinds) -> Any:  # noqa: ANN401
    if not isinstance(inner, dict) or set(inner) != set(names_of(kind)):
        raise ValueError(f"{cut(inner, 40)} stands where the parts of a {name} belong")
    values = {key: together(one, tensors, kinds) for key, one in inner.items()}
    for key, hint in _hints(kind).items():
        if key in values and not fits(values[key], hint):
            raise ValueError(f"{key} of a {name} is {cut(_shown(values[key]), 40)}, where something else belongs")
    return kind(**values)


def _shown(value: object) -> object:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else value


def names_of(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass or a named tuple."""
    return tuple(one.name for one in fields(kind)) if is_dataclass(kind) else tuple(kind._fields)  # type: ignore[attr-defined]


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - any annotation
    """Whether a value has the type of an annotation, in its containers too. A bool is no number."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(each) == len(value) and all(map(fits, value, each))
    if origin is list:
        return isinstance(value, list) and all(fits(one, args[0]) for one in value)
    if origin is not None:  # a mapping
        return isinstance(value, dict) and all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)
