"""Time two ways of doing the same thing on a machine that others use too."""

import time
from collections.abc import Callable
from typing import Any

Seconds = tuple[float, float]


def paired(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> Seconds:
    """Least CPU seconds of each over some rounds in which they take turns, after one round to warm up.

    CPU time does not count waiting for other programs, and the least of several is the one that they disturbed least.
    Set one thread before: CPU seconds are summed over threads.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for function, taken in zip((one, other), times, strict=True):
            begin = time.process_time()
            function()
            if number:
                taken.append(time.process_time() - begin)
    return min(times[0]), min(times[1])
