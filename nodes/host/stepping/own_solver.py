"""Steps of our own solvers: their state is explicit, so a run goes on from it, without records and replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ....models import solvers
from ....models.solvers import Evaluation, Solver, SolverState
from ..sampling import check_flow_model
from .replay import Watcher
from .state import Trajectory


class SolverWatcher(Watcher):
    """A watcher that only evaluates; the solver's state, not the call, is where a step ends."""

    def __init__(self, guider: Any, trajectory: Trajectory, *others: Any) -> None:
        past = replace(trajectory.past, pattern="")
        super().__init__(guider, replace(trajectory, past=past), *others)
        self.callbacks = past.callbacks
        self.state: SolverState | None = None

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The solver asks for a prediction."""
        return self.answer(x, sigma, **kwargs)

    def stepwise(self, sampler: Any) -> Any:
        """A core sampler like `sampler`, one of ours, that begins at the trajectory's state and ends with its steps."""

        def run(
            model: Any,
            x: Tensor,
            sigmas: Tensor,
            extra_args: Mapping[str, Any],
            callback: Callable[[dict[str, Any]], None],
            disable: bool | None = None,  # noqa: ARG001 - core's name; a bar per step would say nothing
        ) -> Tensor:
            check_flow_model(model)
            return self._run(sampler.spacetime_solver, model, x, sigmas.tolist(), extra_args, callback)

        return comfy.samplers.KSAMPLER(run, {}, sampler.inpaint_options)

    @torch.no_grad()  # as core's own samplers
    def _run(
        self,
        solver: Solver,
        model: Any,
        x: Tensor,
        levels: list[float],
        extra_args: Mapping[str, Any],
        callback: Callable[[dict[str, Any]], None],
    ) -> Tensor:
        def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
            denoised: Tensor = model(x, sigma, **extra_args)
            return denoised

        past = self.trajectory.past.solver
        if past is None:
            state = solvers.start(x, levels[0], solvers.noise_generator(extra_args.get("seed")))
        else:
            state = moved(past, x.device)
            self.restore(dict(extra_args["model_options"]), x.device)
        for index in range(self.trajectory.past.step, len(levels) - 1):
            reached = self.steps_made > 0 and state.sigma <= self.goal.until
            if reached or self.steps_made >= self.goal.steps:
                self.state = moved(state, "cpu")
                self.leave(self.state.x, torch.tensor(state.sigma))
            before, state = state, solvers.step(solver, state, denoiser, levels[index + 1])
            callback({"i": index, "denoised": state.denoised, "x": before.x, "sigma": before.sigma})
        return state.x.to(x.dtype)

    def stopped(self) -> Trajectory:
        """The trajectory where the solver was stopped."""
        if self.state is not None:
            self.x = self.state.x  # which is in the CPU's memory already
        after = super().stopped()
        return replace(after, past=replace(after.past, solver=self.state))


def moved(state: SolverState, device: torch.device | str) -> SolverState:
    """A solver's state on another device, in one transfer; the generator's stays on the CPU."""
    held = (state.x, state.denoised, state.anchor, *(item.denoised for item in state.history))
    parts = {id(part): part for part in held if part is not None}
    if state.x.device == torch.device(device):
        return state
    there = dict(zip(parts, torch.stack(list(parts.values())).to(device).unbind(), strict=True))
    x, denoised, anchor, *past = (None if part is None else there[id(part)] for part in held)
    assert x is not None
    return replace(
        state,
        x=x,
        denoised=denoised,
        anchor=anchor,
        history=tuple(
            Evaluation(item.sigma, value) for item, value in zip(state.history, past, strict=True) if value is not None
        ),
    )
