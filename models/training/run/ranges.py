"""What the options of training may be: one table for the shell's options, the settings and the nodes' inputs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any

MOST = 10_000_000  # steps, patches: beyond any machine


@dataclass(frozen=True)
class Range:
    """Whole numbers from low to high, multiples of `step` from there; or any numbers where the limits are floats."""

    low: float
    high: float
    step: int = 1

    @property
    def kind(self) -> type[int] | type[float]:
        """The type of the values."""
        return int if isinstance(self.low, int) else float

    def holds(self, value: float) -> bool:
        """Whether a value may be; NaN may not."""
        if not self.low <= value <= self.high:
            return False
        return self.kind is float or (value == int(value) and int(value) % self.step == 0)

    def __str__(self) -> str:
        numbers = f"{self.low:{'g' if self.kind is float else 'd'}} to {self.high:{'g' if self.kind is float else 'd'}}"
        return numbers if self.step == 1 else f"a multiple of {self.step} from {numbers}"


RANGES = {
    "steps": Range(1, MOST),
    "minutes": Range(0.0, 1e6),
    "save_every": Range(1, 100_000),
    "seed": Range(0, 2**31 - 1),
    "batch": Range(1, 1024),
    "crop": Range(16, 1024, 16),
    "tokens": Range(16, MOST),
    "accumulate": Range(1, 1000),
    "learning_rate": Range(1e-6, 0.1),
    "warmup": Range(0, MOST),
    "decay": Range(0.0, 1.0),
    "clip_deviations": Range(0.0, 1000.0),
    "images": Range(0.0, 1.0),
    "balance": Range(0.0, 1.0),
    "dropout": Range(0.0, 1.0),
    "region": Range(0.0, 1.0),
    "steadiness": Range(0.0, 1000.0),
    "alignment": Range(0.0, 100.0),
    "route": Range(0.0, 0.99),
    "route_start": Range(0, 1000),
    "route_end": Range(-1000, 1000),
    "kl_weight": Range(0.0, 1000.0),
    "gradient_scales": Range(1, 8),
    "perceptual": Range(0.0, 10.0),
    "perceptual_frames": Range(1, 1024),
    "adversarial": Range(0.0, 10.0),
    "adversarial_from": Range(0.0, 1.0),
    "latent_noise": Range(0.0, 10.0),
    "lora": Range(0, 1024),
    "snapshots": Range(0, 1000),
    "early": Range(0.0, 0.99),
    "student_steps": Range(1, 64),
    "substeps": Range(1, 256),
    "few_rank": Range(1, 1024),
    # of clips
    "fps": Range(1.0, 60.0),
    "clips": Range(1, 100_000),
    "count": Range(1, 1_000_000),
    "first": Range(0, 10**9),
    # of what is done with a model
    "threads": Range(0, 4096),
    "with_parent": Range(0, 2**31 - 1),
    "limit": Range(0, 1_000_000),
    "step": Range(0, MOST),
    "shift": Range(0.01, 100.0),
    "strength": Range(-100.0, 100.0),
    "cfg": Range(0.0, 30.0),
    "sigma_rel": Range(0.001, 0.288),
}
CHOICES: dict[str, tuple[str, ...]] = {"dtype": ("bfloat16", "float32"), "perceptual_network": ("vgg", "alex")}


def option(name: str) -> str:
    """A setting as the shell's option."""
    return f"--{name.replace('_', '-')}"


def limits(name: str) -> dict[str, Any]:
    """`min`, `max` and, for multiples, `step` of a node's input."""
    given = RANGES[name]
    return {"min": given.low, "max": given.high} | ({"step": given.step} if given.step > 1 else {})


def within(name: str) -> Callable[[str], float]:
    """What reads an option on the command line: a number in its range, else argparse shows a sentence."""
    given = RANGES[name]

    def read(text: str) -> float:
        try:
            value = given.kind(text)
        except ValueError:
            value = math.nan
        if not given.holds(value):
            raise argparse.ArgumentTypeError(f"{text} is not {given}")
        return value

    return read


def check_settings(settings: object, presets: Collection[str] = ()) -> None:
    """ValueError, with the option, its value and what it may be, for a field of a settings dataclass out of range."""
    choices = CHOICES | ({"preset": tuple(presets)} if presets else {})
    for name in (entry.name for entry in fields(settings)):  # type: ignore[arg-type]
        value = getattr(settings, name)
        if name in RANGES and not RANGES[name].holds(value):
            raise ValueError(f"{option(name)} is {RANGES[name]}, not {value}")
        if name in choices and value not in choices[name]:
            raise ValueError(f"{option(name)} is one of {', '.join(choices[name])}, not {value}")
