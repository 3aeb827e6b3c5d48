"""Time two ways of doing the same thing on a machine that others use too."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Seconds = tuple[float, float]


def paired(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> Seconds:
    """Least CPU seconds of each over some rounds in which they take turns, after one round to warm up.

    CPU time does not count waiting for other programs, and the least of several is the one that they disturbed least.
    Set one thread before: CPU seconds are summed over threads.
    """
    first, second = by_turns([one, other], rounds)
    return first, second


def by_turns(functions: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """The same for any number of functions."""
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 1):
        for function, taken in zip(functions, times, strict=True):
            begin = time.process_time()
            function()
            if number:
                taken.append(time.process_time() - begin)
    return [min(taken) for taken in times]
