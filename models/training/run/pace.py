"""How far a run is: by its steps, or by the clock where it has to end within some minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..optim.optimiser import learning_rate_scale


class Pace:
    """Counts a run's steps. With `minutes` a run that is too slow for all of them ends when these are over.

    The learning rate follows `at`, so a run that the clock ends has come to its low end as well. Which step that is
    depends on the machine: such a run can be continued, but not repeated to the bit.
    """

    def __init__(self, steps: int, minutes: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.seconds, self.clock = steps, 60 * minutes, clock
        self.began = clock()
        self.over = False

    def __call__(self, first: int) -> Iterator[int]:
        """The numbers of the steps to make, `first` being the next one."""
        step = first
        while step < self.steps and not self.over:
            yield step
            step += 1

    def at(self, step: int) -> int:
        """The place of a step in the whole run: its number, or a later one where time runs faster."""
        if not self.seconds:
            return step
        return max(step, min(self.steps - 1, int(self.steps * (self.clock() - self.began) / self.seconds)))

    def scale(self, step: int, *, warmup: int, decay: float) -> float:
        """The learning rate's scale at a step (optimiser.learning_rate_scale)."""
        return learning_rate_scale(step, self.steps, warmup=warmup, decay=decay, place=self.at(step))

    def ends(self, done: int) -> bool:
        """Whether the run ends after `done` steps. To be asked once after each step."""
        late = bool(self.seconds) and self.clock() - self.began >= self.seconds
        self.over = self.over or late or done >= self.steps
        return self.over
