"""What a denoising run remembers between two calls of the step node.

A Trajectory is never changed: each call makes a new one that shares its parts, so a workflow may branch, be cached
or be interrupted at any step. Its parts change at different times: the origin and the schedule when a trajectory
begins, the past and the pause with every call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ....models.solvers import SolverState
from .brownian import Draws
from .hidden_state import HiddenState
from .randomness import RngState


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the sampler starts from, at every call again.

    latents   (B, C, T, H, W) clean content, in the VAE's units; mask (B, 1, T, H, W) or None: 1 generate, 0 keep
    noise     (B, C, T, H, W), seed, rng: what core's sampler would have started with
              (all of them (B, 1, N) where there are several streams: see .streams)
    start     x that replaces noised latents at the first sigma after a restart, in the model's units
    edited    the same in the VAE's units, until a model is there to convert it; same: where it is still `start`
    """

    latents: Tensor
    mask: Tensor | None
    noise: Tensor
    seed: int
    rng: RngState
    start: Tensor | None = None
    edited: Tensor | None = None
    same: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Noise levels: `sigmas` (S + 1,) of this trajectory, a tail of those of the `whole` run after a restart.

    steps_before: steps that the trajectories before it have made.
    """

    sigmas: Tensor
    whole: Tensor
    steps_before: int = 0

    def rest(self, sigma: float, steps: int) -> Schedule:
        """The schedule of a restart at `sigma`, after `steps` steps of this one."""
        below = self.sigmas[self.sigmas < sigma * (1 - 1e-6)]
        sigmas = torch.cat([torch.tensor([sigma]), below])
        return replace(self, sigmas=sigmas, steps_before=self.steps_before + steps)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One call of the model: its answer, and what else the sampler saw of it (all tensors in CPU memory).

    sigma  the noise level asked for: a replay must ask for the same
    cfg    for each run of a post-cfg function that the sampler had hung in: its position, and the tensors it read
    rng    global random state after the call, where the model drew from it
    """

    denoised: Tensor
    sigma: Tensor
    cfg: tuple[tuple[int, dict[str, Any]], ...] = ()
    rng: RngState | None = None


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the sampler has done since the origin. The records, fed to it again, bring it back to the bit to where it
    stopped, whatever history it keeps inside.

    sampler   fingerprint of the sampler whose calls were recorded
    pattern   dry run of the sampler: C a call of the model, B its callback; "" when it cannot be foreseen
    records   the model's answers so far; callbacks and step: how far that is
    draws     Brownian noise that was drawn so far
    solver    state of one of our own solvers (models.solvers), which needs no records
    """

    sampler: str | None = None
    pattern: str | None = None
    records: tuple[Record, ...] = ()
    callbacks: int = 0
    step: int = 0
    draws: Draws = field(default_factory=dict, repr=False)
    solver: SolverState | None = field(default=None, repr=False)

    @property
    def step_starts(self) -> list[int]:
        """Index of the call with which each step begins, [] when the sampler's calls cannot be foreseen.

        A step ends with its callback, so step n begins at the last call before the n-th callback; callbacks without
        a call between them belong to one step.
        """
        starts: list[int] = []
        calls, pending = 0, None
        for event in self.pattern or "":
            if event == "C":
                pending, calls = calls, calls + 1
            elif pending is not None:
                starts.append(0 if not starts else pending)
                pending = None
        return starts


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Where the run was stopped: before a call of the model.

    x, sigma  input of that call, in the model's units; x is None before the first one and at the end
    hidden    state that caches, scheduled hooks and random generators of the host had there
    """

    sigma: float
    x: Tensor | None = None
    hidden: HiddenState | None = field(default=None, repr=False)


@dataclass(frozen=True)
class MadeBy:
    """Fingerprints of what the model was and of how it was guided (kind of guider, its settings, the prompts)."""

    model: str
    guider: str


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """State of a denoising run at the call of the model that comes next.

    values    what the tokens showed (see .streams), to notice edits; denoised the last prediction, in the VAE's units
    made_by   what the last steps were made by
    done      whether nothing is left; note: what the node says of it
    """

    origin: Origin
    schedule: Schedule
    pause: Pause
    values: Tensor
    past: Past = Past()
    denoised: Tensor | None = None
    made_by: MadeBy | None = None
    done: bool = False
    note: str = ""

    @property
    def sigma(self) -> float:
        """The noise level that the run has come to."""
        return self.pause.sigma

    @property
    def position(self) -> tuple[int, int]:
        """Steps done and steps in all, over restarts."""
        before = self.schedule.steps_before
        total = before + (len(self.past.step_starts) or len(self.schedule.sigmas) - 1)
        done = before + self.past.step
        return done, done if self.done else max(total, done + 1)
