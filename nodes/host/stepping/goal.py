"""How far one call of the step node goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .state import Trajectory

ALL_STEPS = 10**9
ROUNDING = 1e-6  # of a noise level in float32
# Wan 2.2 A14B has two experts; the first one works while sigma is at or above this (boundary in its wan_t2v_A14B.py and
# wan_i2v_A14B.py). By the channels that a model takes: 16 are latents alone, 36 hold an image too.
WAN_BOUNDARIES = {16: 0.875, 36: 0.9}


@dataclass(frozen=True)
class Goal:
    """`steps` steps at most, and none that would begin at a noise level of `until` or below."""

    steps: int = ALL_STEPS
    until: float = -math.inf

    @property
    def is_all(self) -> bool:
        """Whether it asks for all that is left."""
        return self.steps >= ALL_STEPS and self.until < 0

    def ahead(self, run: Trajectory) -> int:
        """How many steps of a run it asks for, as far as that is known."""
        done, total = run.position
        left = min(self.steps, total - done)
        if self.until < 0:
            return left
        levels = run.schedule.sigmas[:-1]
        return min(left, int(((levels > self.until) & (levels <= run.sigma * (1 + ROUNDING))).sum()))


def steps_goal(steps: int) -> Goal:
    """So many steps; 0 or less: all that are left."""
    return Goal(steps if steps > 0 else ALL_STEPS)


def goal_of(until: str, steps: int, value: float, run: Trajectory | None, model: Any) -> Goal:
    """What the node's inputs ask for. ValueError for a noise level that the run has passed, or that nobody knows.

    until: "steps", or to the noise level "sigma" (value), "percent" (value 0 to 1 of the model's own range, as for
    prompts), or "model's boundary", where the second of two experts takes over.
    """
    if until == "steps" or run is None or run.done:
        return steps_goal(steps)
    if until == "model's boundary":
        level = boundary_of(model) * (1 - ROUNDING)  # a step at the boundary belongs to the first expert
        return Goal(0) if run.sigma <= level else Goal(until=level)
    if until == "percent":
        if not 0 <= value <= 1:
            raise ValueError(f"value is {value:g}: percent counts from 0 (the beginning) to 1 (the end)")
        level = float(model.get_model_object("model_sampling").percent_to_sigma(value))
    else:
        level = value
    if run.sigma <= level * (1 + ROUNDING):
        raise ValueError(
            f"the run is at sigma {run.sigma:.4g} and does not go back up to {level:.4g}: choose a lower sigma or a "
            "later percent, or remove this step"
        )
    return Goal(until=level * (1 + ROUNDING))


def boundary_of(model: Any) -> float:
    """The noise level at which a core MODEL's second expert takes over. ValueError for models without one."""
    config = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    of_wan = config.get("image_model") == "wan2.1" and config.get("model_type") in ("t2v", "i2v")
    level = WAN_BOUNDARIES.get(config.get("in_dim", 0)) if of_wan else None
    if level is None:
        raise ValueError(
            "no boundary between two experts is known for this model, only for Wan 2.2 A14B (0.875 for text, 0.9 for "
            "images): set until to sigma, and value to the level where the next model takes over"
        )
    return level
