"""Many videos: prompts x seeds, made by a pool of workers that keep the model loaded, handed back in order.

A video depends on its prompt, its seed and the recipe alone, so it does not matter which worker makes it, or when.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..generate import Models, generate
from ..geometry import OURS

Frames = NDArray[np.uint8]  # (F, H, W, 3)
TRIES = 3
MOST = 10_000


@dataclass(frozen=True)
class Job:
    """One video of a batch."""

    number: int
    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all videos of a batch have in common. shift None: what the checkpoint recommends."""

    num_frames: int = 33
    height: int = 96
    width: int = 96
    steps: int = 24
    cfg: float = 2.0
    shift: float | None = None
    negative: str = ""
    threads: int = 1  # per worker: sums, and so the last bits, depend on it
    numbers: str = "bfloat16"

    def __post_init__(self) -> None:
        OURS.latent_shape(self.num_frames, self.height, self.width)
        if self.steps < 1 or self.threads < 1:
            raise ValueError(f"{self.steps} steps on {self.threads} threads: both are 1 or more")


class WorkerLostError(Exception):
    """A worker died over a job; another can do it."""


class Pool(Protocol):
    """Workers that take jobs. A job's outcome comes once: frames, or WorkerLostError. Other errors are raised."""

    def free(self) -> bool:
        """Whether a worker is waiting for a job."""

    def start(self, job: Job) -> None:
        """Give a job to a waiting worker."""

    def ended(self) -> list[tuple[Job, Frames | WorkerLostError]]:
        """Jobs that have ended since; waits a moment where there are none."""


class Maker:
    """A loaded model that makes videos: what a worker is, on a cluster or in this process."""

    def __init__(self, checkpoint: Checkpoint, recipe: Recipe, device: str = "cpu") -> None:
        torch.set_num_threads(recipe.threads)
        self.recipe = recipe
        self.shift = float(checkpoint.meta.get("shift", 2.0)) if recipe.shift is None else recipe.shift
        self.models = Models.load(checkpoint, device=device, dtype=getattr(torch, recipe.numbers))

    def make(self, prompt: str, seed: int) -> Frames:
        """One video."""
        recipe = self.recipe
        (frames,) = generate(
            self.models,
            [prompt],
            num_frames=recipe.num_frames,
            height=recipe.height,
            width=recipe.width,
            steps=recipe.steps,
            cfg=recipe.cfg,
            shift=self.shift,
            seed=seed,
            negative=recipe.negative,
        )
        return frames


class OneByOne:
    """A pool of one worker in this process: the plain loop."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.waiting: list[Job] = []

    def free(self) -> bool:
        """Whether no job waits."""
        return not self.waiting

    def start(self, job: Job) -> None:
        """Take a job."""
        self.waiting.append(job)

    def ended(self) -> list[tuple[Job, Any]]:
        """Do it now."""
        jobs, self.waiting = self.waiting, []
        return [(job, self.maker.make(job.prompt, job.seed)) for job in jobs]


def jobs_of(prompts: Sequence[str], seeds: int, first: int = 0) -> list[Job]:
    """Every prompt with seeds first, first + 1, ...; a prompt's videos follow each other. Empty lines do not count."""
    lines = [prompt.strip() for prompt in prompts if prompt.strip()]
    if not lines or seeds < 1:
        raise ValueError(f"{len(lines)} prompts with {seeds} seeds each: give at least one of both, a prompt per line")
    if len(lines) * seeds > MOST:
        raise ValueError(
            f"{len(lines)} prompts with {seeds} seeds each are more than {MOST} videos: make fewer at once"
        )
    pairs = [(prompt, first + i) for prompt in lines for i in range(seeds)]
    return [Job(number, prompt, seed) for number, (prompt, seed) in enumerate(pairs)]


def fan_out(
    pool: Pool,
    jobs: Sequence[Job],
    *,
    progress: Callable[[int], None] = lambda _done: None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Job, Frames]]:
    """Each job with its video, in the order of `jobs`, as soon as all before it are there.

    progress gets the number of videos made; `check` may raise to end the work, and is called several times a second.
    A job whose worker dies is tried again, TRIES times in all; then ValueError.
    """
    waiting, made, lost = deque(jobs), dict[int, Frames](), Counter[int]()
    done = 0
    for job in jobs:
        while job.number not in made:
            check()
            while waiting and pool.free():
                pool.start(waiting.popleft())
            for ended, outcome in pool.ended():
                if isinstance(outcome, WorkerLostError):
                    lost[ended.number] += 1
                    if lost[ended.number] >= TRIES:
                        raise ValueError(
                            f'{TRIES} workers died over "{ended.prompt}" ({outcome}): their memory may be too small'
                        )
                    waiting.appendleft(ended)
                else:
                    made[ended.number] = outcome
                    done += 1
                    progress(done)
        yield job, made.pop(job.number)
