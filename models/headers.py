"""What the header of a file may say: each field of a config has a type and limits, checked before anything is built.

A config is a frozen dataclass whose fields are whole numbers, numbers, yes or no, words of a Literal, or tuples of
these; `Annotated[int, Within(1, 64)]` gives limits. Configs call `check_fields` when they are made, so that one that
exists is one that can be built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from .remedies import cut

Config = TypeVar("Config")


class Within(NamedTuple):
    """Limits of a number, both allowed."""

    low: float
    high: float


Width = Annotated[int, Within(1, 65_536)]  # features, channels
Depth = Annotated[int, Within(0, 1024)]  # layers
Heads = Annotated[int, Within(1, 1024)]
Side = Annotated[int, Within(1, 64)]  # of a patch
Ratio = Annotated[float, Within(0.01, 64)]


def check_fields(config: Any) -> None:  # noqa: ANN401 - any dataclass
    """ValueError that names the first field of a config whose value has another type or lies outside its limits."""
    for name, hint in _hints(type(config)).items():  # type: ignore[arg-type]
        _check(name, getattr(config, name), hint)


def config_of(kind: type[Config], values: object) -> Config:
    """The config that a JSON value describes. ValueError for entries that are unknown, missing or no such values."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{cut(values, 40)} is no description of a {kind.__name__}")
    names = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    if set(values) != names:
        raise ValueError(f"unknown or missing entries {cut(sorted(set(values) ^ names))}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_number(name: str, value: object, low: float, high: float) -> float:
    """A number of a header. ValueError unless it is one from low to high."""
    _check(name, value, Annotated[float, Within(low, high)])
    assert isinstance(value, int | float)
    return float(value)


def check_whole_number(name: str, value: object, low: int, high: int) -> int:
    """The same for a whole number."""
    _check(name, value, Annotated[int, Within(low, high)])
    assert isinstance(value, int)
    return value


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    names = {entry.name for entry in fields(kind)}
    return {name: hint for name, hint in get_type_hints(kind, include_extras=True).items() if name in names}


def _check(name: str, value: object, hint: Any, within: Within | None = None) -> None:  # noqa: ANN401
    origin = get_origin(hint)
    if origin is Annotated:
        kind, *limits = get_args(hint)
        _check(name, value, kind, next((one for one in limits if isinstance(one, Within)), None))
    elif origin is tuple:
        kinds = get_args(hint)
        if not isinstance(value, tuple) or len(value) != len(kinds):
            raise ValueError(f"{name} is {cut(value, 40)}, where {len(kinds)} values belong")
        for one, kind in zip(value, kinds, strict=True):
            _check(name, one, kind)
    elif origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} is {cut(value, 40)}, where one of {', '.join(get_args(hint))} belongs")
    elif hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {cut(value, 40)}, where true or false belongs")
    else:
        _check_number(name, value, within or Within(-math.inf, math.inf), whole=hint is int)


def _check_number(name: str, value: object, within: Within, *, whole: bool) -> None:
    kinds = int if whole else (int, float)
    # `not <=` also takes NaN; a bool is an int to Python, but no number to a person
    if not isinstance(value, kinds) or isinstance(value, bool) or not within.low <= value <= within.high:
        what = "a whole number" if whole else "a number"
        raise ValueError(f"{name} is {cut(value, 40)}, where {what} from {within.low:g} to {within.high:g} belongs")
