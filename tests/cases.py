"""Which of many cases a test goes through: with `--all-cases` all, else so few that every value has its turn."""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

ALL = "SPACETIME_ALL_CASES"


def all_cases() -> bool:
    """Whether whole products were asked for."""
    return bool(os.environ.get(ALL))


def in_turn(each: Sequence[Any], *others: Sequence[Any], times: int = 1) -> list[tuple[Any, ...]]:
    """Rows of the product of lists: every value of the first `times` times, beside combinations of the others in turn.

    With rows enough for it, every combination of the others comes up too.
    """
    combinations = list(product(*others))
    if all_cases() or times >= len(combinations):
        return [(value, *rest) for value, rest in product(each, combinations)]
    stride = len(combinations) // times
    return [
        (value, *combinations[(i + turn * stride) % len(combinations)])
        for i, value in enumerate(each)
        for turn in range(times)
    ]


def every(nth: int, cases: Sequence[Any]) -> list[Any]:
    """Each nth of cases that are alike, where all of them take long."""
    return list(cases if all_cases() else cases[::nth])
