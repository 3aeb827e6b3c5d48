"""The same run from several seeds, each as far as a goal: one after the other, so each is what it would be alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ....models.patches import Tokens
from ..messages import check_interrupted
from .goal import steps_goal
from .stepper import advance
from .trajectory import begin

MOST = 2**64


def explored(
    tokens: Tokens,
    noise: Any,
    sigmas: Tensor,
    guider: Any,
    sampler: Any,
    seeds: int,
    steps: int,
    show: Callable[[str], None],
) -> list[tuple[int, Tokens]]:
    """(seed, tokens after so many steps) for this noise's seed and the ones after it. Goes on exactly, as any run.

    ValueError where all steps would be made: nothing is left to finish then.
    """
    if steps >= len(sigmas) - 1:
        raise ValueError(
            f"{steps} steps of {len(sigmas) - 1} leave nothing to finish: explore with fewer than the schedule has"
        )
    runs = []
    for number in range(seeds):
        check_interrupted()
        own = copy.copy(noise)
        own.seed = (noise.seed + number) % MOST

        def say(text: str, number: int = number) -> None:
            show(f"seed {number + 1} of {seeds}, {text}")

        runs.append((own.seed, advance(begin(tokens, own, sigmas), guider, sampler, steps_goal(steps), say)))
    return runs


def nothing_yet() -> Any:
    """An output for which nothing is there yet: what follows does not run, and no error is shown."""
    return ExecutionBlocker(None)
