"""With which settings a model is best run: what its checkpoint says of it, and what the embedded one's card says.

A checkpoint's header gives guidance, steps and solver under meta.recommended, as {"cfg": 2.0, "steps": 24, "solver":
"euler_sde"}, and the shift of the noise schedule under meta.shift, where it stood before there were recommendations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .headers import check_number, check_whole_number
from .remedies import cut
from .solvers import SOLVERS

ENTRIES = ("cfg", "steps", "solver")
PARTS = "cfg, steps and solver"


@dataclass(frozen=True)
class Recommended:
    """Settings of a run.

    cfg     strength of guidance; 1 is none
    shift   of the noise schedule (schedules.shift_sigmas)
    steps   denoising steps
    solver  one of solvers.SOLVERS
    """

    cfg: float
    shift: float
    steps: int
    solver: str

    def __post_init__(self) -> None:
        """ValueError for values that no run can take."""
        check_number("cfg", self.cfg, 0, 30)
        check_number("shift", self.shift, 0.01, 1000)
        check_whole_number("steps", self.steps, 1, 1000)
        if not isinstance(self.solver, str) or self.solver not in SOLVERS:
            raise ValueError(f"solver is {cut(self.solver, 40)}, where one of {', '.join(SOLVERS)} belongs")

    @classmethod
    def parse(cls, entry: object, shift: float) -> Recommended:
        """From a header's entry and its shift. ValueError, with the entry, for anything else."""
        if not isinstance(entry, Mapping) or set(entry) != set(ENTRIES):
            raise ValueError(f"recommended is {cut(entry, 60)}, where {PARTS} belong")
        return cls(shift=shift, **entry)

    def entry(self) -> dict[str, Any]:
        """What a header holds of it beside the shift."""
        return {name: value for name, value in asdict(self).items() if name in ENTRIES}

    def text(self) -> str:
        """`cfg 2, shift 2, 24 steps, euler_sde`."""
        return f"cfg {self.cfg:g}, shift {self.shift:g}, {self.steps} steps, {self.solver}"


# chosen for the embedded model on prompts that its measurements do not use; its file holds them too
CARD = Recommended(cfg=2.0, shift=2.0, steps=24, solver="euler_sde")
