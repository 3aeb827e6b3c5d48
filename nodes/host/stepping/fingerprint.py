"""Samplers, models and guiders named by what they do, alike in every process and on every machine.

A rebuilt but equal object continues a run, also one that was saved. Nothing here decides whether a run can be
continued exactly: that shows in the replay. It tells people that they have connected something else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from itertools import count
from types import FunctionType
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....models.nested import digest_of
from .state import MadeBy

VALUES = 16  # numbers that are looked at of each weight
PACK = __name__.rpartition(".nodes.")[0]  # the name under which the host has loaded the pack
NOT_OF_A_GUIDER = {"model_patcher", "model_options", "inner_model", "loaded_models", "conds", "weak"}
_known_weights: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def fingerprint(sampler: Any) -> str:
    """Name a sampler by its functions, their settings and what they enclose."""
    return _hash(_described(sampler))


def made_by(guider: Any) -> MadeBy:
    """Name the model that a guider asks, and how it asks it."""
    patcher = guider.model_patcher
    settings = {name: value for name, value in vars(guider).items() if name not in NOT_OF_A_GUIDER}
    weak = getattr(guider, "weak", None)
    other = "" if weak is None else _of_model(weak)
    return MadeBy(_of_model(patcher), _hash(_name(type(guider)), _described(settings, deep=False), other))


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:32]


def _name(kind: Any) -> str:
    """Where a class or function is from; packs are loaded under names that hold the path of their folder."""
    module = str(kind.__module__)
    module = module.replace(PACK, "spacetime", 1) if module.startswith(PACK) else re.split(r"[/\\]", module)[-1]
    return f"{module}.{kind.__qualname__}"


def _described(value: Any, *, deep: bool = True) -> str:
    """A value as text. deep: objects by their attributes too, otherwise only containers and dataclasses."""
    seen: dict[int, int] = {}
    number = count()

    def describe(item: Any) -> str:
        if isinstance(item, str | int | float | bool | type(None) | torch.dtype | torch.device):
            return repr(item)
        if isinstance(item, Tensor):
            return f"tensor{tuple(item.shape)}{digest_of(item.detach().cpu().contiguous()).hex()}"
        if isinstance(item, UUID):  # made anew for every guider
            return "uuid"
        if id(item) in seen:
            return f"#{seen[id(item)]}"
        seen[id(item)] = next(number)
        if isinstance(item, Mapping):
            return "{" + ",".join(f"{describe(k)}:{describe(v)}" for k, v in item.items()) + "}"
        if isinstance(item, set | frozenset):
            return "{" + ",".join(sorted(map(describe, item))) + "}"
        if isinstance(item, list | tuple):
            return "[" + ",".join(map(describe, item)) + "]"
        if isinstance(item, FunctionType):
            cells = [cell.cell_contents for cell in item.__closure__ or ()] if deep else []
            return f"{_name(item)}{describe([cells, item.__defaults__, item.__kwdefaults__])}"
        if isinstance(item, partial):
            return f"partial{describe([item.func, item.args, item.keywords])}"
        if isinstance(item, type):
            return _name(item)
        state = getattr(item, "__dict__", None) if deep or is_dataclass(item) else None
        plain = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(item)) if deep else ""
        return f"{_name(type(item))}{describe(state) if state else plain}"

    return describe(value)


def _of_model(patcher: Any) -> str:
    """A MODEL by its kind, some numbers of each weight, and what is patched in."""
    parts = [_name(type(patcher.model)), _weights(patcher)]
    for key in sorted(getattr(patcher, "patches", {}), key=str):
        for strength, patch, *_ in patcher.patches[key]:
            parts += [f"{key} {strength}", *map(_few, _tensors(patch))]
    return _hash(*parts)


def _weights(patcher: Any) -> str:
    model = patcher.model
    if model not in _known_weights:
        backup = {**getattr(patcher, "backup", {})}  # as they are without the patches
        parts = []
        for name, weight in sorted(model.diffusion_model.state_dict().items()):
            kept = backup.get(f"diffusion_model.{name}")
            parts.append(f"{name} {_few(weight if kept is None else kept.weight)}")
        _known_weights[model] = _hash(*parts)
    return _known_weights[model]


def _few(weight: Tensor) -> str:
    """Shape and some numbers of a tensor; only the shape of packed ones that do not tell their numbers."""
    try:
        flat = weight.detach().reshape(-1)
        few = flat[:: max(1, flat.numel() // VALUES)][:VALUES].to("cpu", torch.float32)
        return f"{tuple(weight.shape)} {few.tolist()}"
    except (RuntimeError, NotImplementedError, TypeError):
        return f"{tuple(weight.shape)}"


def _tensors(patch: Any) -> list[Tensor]:
    """The tensors of a patch, whatever it is made of."""
    if isinstance(patch, Tensor):
        return [patch]
    inner = patch if isinstance(patch, list | tuple) else getattr(patch, "weights", ())
    return [one for part in inner if part is not None for one in _tensors(part)] if inner is not patch or patch else []
