"""A sampler named by what it does, so that a rebuilt but equal object continues a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor


def fingerprint(value: Any) -> str:
    """Name a sampler by what it does, so that a rebuilt but equal object continues a run."""
    seen: dict[int, int] = {}
    number = count()

    def describe(item: Any) -> str:
        if isinstance(item, (str, int, float, bool, type(None), torch.dtype, torch.device)):
            return repr(item)
        if isinstance(item, Tensor):
            return f"tensor{item.tolist()}"
        if id(item) in seen:
            return f"#{seen[id(item)]}"
        seen[id(item)] = next(number)
        if isinstance(item, Mapping):
            return "{" + ",".join(f"{describe(k)}:{describe(v)}" for k, v in item.items()) + "}"
        if isinstance(item, (list, tuple, set, frozenset)):
            return "[" + ",".join(map(describe, item)) + "]"
        if isinstance(item, FunctionType):
            cells = [cell.cell_contents for cell in item.__closure__ or ()]
            return f"{item.__module__}.{item.__qualname__}{describe([cells, item.__defaults__, item.__kwdefaults__])}"
        if isinstance(item, partial):
            return f"partial{describe([item.func, item.args, item.keywords])}"
        if isinstance(item, type):
            return f"{item.__module__}.{item.__qualname__}"
        state = getattr(item, "__dict__", None)
        return f"{describe(type(item))}{describe(state) if state else repr(item)}"

    return describe(value)
