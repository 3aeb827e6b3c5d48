"""Solvers of the denoising ODE and SDE: one step function each, over any denoiser, with all state explicit.

A denoiser is a callable (x, sigma) -> denoised, where sigma is a tensor (B,). A step is a pure function from state to
state and `sample` a loop over it, so n single steps are one run of n, bit for bit, also from a copied or saved state.
With (x - denoised) / sigma = velocity the probability-flow ODE is dx/dsigma = velocity. Its exact linear part is

    x(s') = (s' / s) x(s) + (1 - s' / s) denoised         if denoised were constant between s and s',

which is where all deterministic solvers below start. Higher orders use the half-log signal-to-noise ratio
lambda = log((1 - sigma) / sigma) (DPM-Solver, arXiv 2206.00927); it is infinite at sigma 1, so a prediction made there
carries the first step and is then left out of the history.

Arithmetic is float32 at least, coefficients are float64. Noise comes from a generator on the CPU whose state travels
in SolverState, so a seed means the same noise on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .flow import Denoiser


class Evaluation(NamedTuple):
    """One answer of the model that a multistep solver remembers."""

    sigma: float
    denoised: Tensor


@dataclass(frozen=True)
class SolverState:
    """Everything that a solver knows between two steps. Tensors in it are never written to.

    x         (B, ...) the state at sigma; what the next model call sees
    sigma     noise level of x
    step      number of steps done
    denoised  the last step's first prediction (for previews); None before the first step
    history   earlier predictions of a multistep solver, newest last
    anchor    x before the last predictor step, which UniPC's corrector starts from
    rng       state of the CPU generator; None where none was given
    """

    x: Tensor
    sigma: float
    step: int = 0
    denoised: Tensor | None = field(default=None, repr=False)
    history: tuple[Evaluation, ...] = field(default=(), repr=False)
    anchor: Tensor | None = field(default=None, repr=False)
    rng: Tensor | None = field(default=None, repr=False)

    @property
    def done(self) -> bool:
        """Whether nothing is left to denoise."""
        return self.sigma == 0


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A solver: its order (unipc), and for stochastic ones eta (0 is the ODE) and s_noise, a factor on the noise."""

    name: str
    order: int = 2
    eta: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in SOLVERS:
            raise ValueError(f"unknown solver {self.name!r}: use one of {', '.join(SOLVERS)}")
        if not 1 <= self.order <= 3:
            raise ValueError(f"order {self.order} is out of range: unipc has order 1, 2 or 3")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta {self.eta} is out of range: use 0 (no fresh noise) to 1")
        if not 0 <= self.s_noise <= 10:
            raise ValueError(f"s_noise {self.s_noise} is out of range: use 0 to 10")

    @property
    def stochastic(self) -> bool:
        """Whether its steps draw noise."""
        return self.name in STOCHASTIC and self.eta > 0


StepFunction = Callable[[Solver, SolverState, Denoiser, float], SolverState]
Callback = Callable[[SolverState, SolverState], None]


def start(x: Tensor, sigma: float, generator: torch.Generator | None = None) -> SolverState:
    """The state before the first step: x (B, ...) at noise level sigma. The generator (CPU) is read, not advanced."""
    if not 0 < sigma <= 1:
        raise ValueError(f"a run starts at a sigma above 0 and up to 1, not {sigma}")
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"the generator is on {generator.device}: give one on the CPU, so that seeds agree on all devices"
        )
    rng = None if generator is None else generator.get_state()
    return SolverState(x.to(torch.promote_types(x.dtype, torch.float32)), float(sigma), rng=rng)


def step(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:
    """One step from state.sigma down to sigma_next; the given state stays valid, also when the denoiser raises."""
    sigma_next = float(sigma_next)
    if not 0 <= sigma_next < state.sigma:
        raise ValueError(f"a step must go down: sigma {state.sigma} cannot be followed by {sigma_next}")
    if solver.stochastic and state.rng is None:
        raise ValueError(f"{solver.name} draws noise: start the run with a generator, or set eta to 0")
    after = SOLVERS[solver.name](solver, state, denoiser, sigma_next)
    return replace(after, sigma=sigma_next, step=state.step + 1)


def sample(
    solver: Solver,
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    callback: Callback | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run the solver down a schedule.

    x (B, ...) is at sigmas[0]; sigmas (n + 1,) fall, usually to 0; fewer than two change nothing. The callback gets the
    states before and after each step. The generator is not advanced. Returns x at sigmas[-1] in the dtype of x.
    """
    levels: list[float] = sigmas.tolist()  # in one transfer
    if len(levels) < 2:
        return x
    state = start(x, levels[0], generator)
    for sigma_next in levels[1:]:
        before, state = state, step(solver, state, denoiser, sigma_next)
        if callback is not None:
            callback(before, state)
    return state.x.to(x.dtype)


def noise_generator(seed: int | None) -> torch.Generator:
    """For the fresh noise of a run: seed + 1, since the noise that the run starts from has used up `seed`."""
    return torch.Generator().manual_seed((0 if seed is None else seed + 1) % 2**64)


def _evaluate(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    return denoiser(x, torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)).to(x.dtype)


def _toward(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """The exact step for a constant denoised; at ratio 0 exactly denoised, whatever x holds."""
    return denoised if ratio == 0 else ratio * x + (1 - ratio) * denoised


def _noise(state: SolverState) -> tuple[Tensor, Tensor]:
    """Standard normal noise like state.x and the generator state after it."""
    assert state.rng is not None
    generator = torch.Generator()
    generator.set_state(state.rng)
    # float32 always, so that the draw does not depend on the precision of the run
    noise = torch.randn(state.x.shape, generator=generator, dtype=torch.float32)
    return noise.to(state.x), generator.get_state()


def euler(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:  # noqa: ARG001
    """Euler steps of the probability-flow ODE; equal to DDIM (arXiv 2010.02502) on this path. One model call."""
    denoised = _evaluate(denoiser, state.x, state.sigma)
    return replace(state, x=_toward(state.x, denoised, sigma_next / state.sigma), denoised=denoised)


def heun(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:  # noqa: ARG001
    """Heun's second order (EDM, arXiv 2206.00364, algorithm 2 without churn). Two model calls, at the last step one."""
    denoised = _evaluate(denoiser, state.x, state.sigma)
    guess = _toward(state.x, denoised, sigma_next / state.sigma)
    if sigma_next == 0:
        return replace(state, x=guess, denoised=denoised)
    slope = (state.x - denoised) / state.sigma
    slope_next = (guess - _evaluate(denoiser, guess, sigma_next)) / sigma_next
    x = state.x + (sigma_next - state.sigma) * (slope + slope_next) / 2
    return replace(state, x=x, denoised=denoised)


def _log_snr(sigma: float) -> float:
    """lambda = log(alpha / sigma) with alpha = 1 - sigma; -inf at 1, inf at 0."""
    if sigma in {0.0, 1.0}:
        return math.inf if sigma == 0 else -math.inf
    return math.log1p(-sigma) - math.log(sigma)


def _usable(history: tuple[Evaluation, ...], length: int) -> tuple[Evaluation, ...]:
    """The newest `length` predictions that have a finite log-SNR."""
    return tuple(item for item in history if item.sigma < 1)[-length:] if length else ()


def dpmpp_2m(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:  # noqa: ARG001
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2). One model call."""
    denoised = _evaluate(denoiser, state.x, state.sigma)
    earlier = _usable(state.history, 1)
    guess = denoised
    if earlier and sigma_next > 0:
        here = _log_snr(state.sigma)
        ratio = (here - _log_snr(earlier[0].sigma)) / (_log_snr(sigma_next) - here)
        guess = denoised + (denoised - earlier[0].denoised) / (2 * ratio)
    x = _toward(state.x, guess, sigma_next / state.sigma)
    return replace(state, x=x, denoised=denoised, history=(Evaluation(state.sigma, denoised),))


def unipc(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:
    """UniPC in data prediction with B(h) = e^h - 1, "bh2" (arXiv 2302.04867, algorithms 1 and 2). One model call.

    state.x is the predictor's guess; the prediction made there first corrects it (UniC), then serves the next
    predictor step (UniP). The order grows from 1 as the history fills; a step to sigma 0 has order 1.
    """
    denoised = _evaluate(denoiser, state.x, state.sigma)
    now = Evaluation(state.sigma, denoised)
    x = state.x
    if state.anchor is not None:
        x = _unipc_update(state.anchor, state.history, state.sigma, corrector=now)
    history = (*_usable(state.history, solver.order - 1), now)
    predicted = _unipc_update(x, history, sigma_next)
    return replace(state, x=predicted, denoised=denoised, history=history, anchor=x)


def _unipc_update(
    x: Tensor, history: tuple[Evaluation, ...], sigma_next: float, corrector: Evaluation | None = None
) -> Tensor:
    """UniP-p from history[-1] to sigma_next, or UniC-p given the prediction at sigma_next; p = len(history)."""
    last = history[-1]
    if sigma_next == 0:
        return last.denoised
    plain = _toward(x, last.denoised, sigma_next / last.sigma)
    here = _log_snr(last.sigma)
    h = _log_snr(sigma_next) - here
    rows = [(_log_snr(item.sigma) - here) / h for item in history[:-1]]
    gaps = [(item.denoised - last.denoised) / row for item, row in zip(history[:-1], rows, strict=True)]
    if corrector is not None:
        rows, gaps = [*rows, 1.0], [*gaps, corrector.denoised - last.denoised]
    if not gaps:
        return plain
    scale = -(1 - sigma_next) * math.expm1(-h)
    return plain + scale * sum(weight * gap for weight, gap in zip(_unipc_weights(rows, h), gaps, strict=True))


def _unipc_weights(rows: list[float], h: float) -> list[float]:
    """The coefficients a of UniPC: sum_m a_m r_m^(n-1) = n! phi_(n+1)(-h) / B(h) for n = 1 .. p (eqs. 5 and 9)."""
    if len(rows) == 1:
        return [0.5]  # the authors' choice for p = 1 (appendix F), independent of h
    phi, factorial, wanted = math.expm1(-h) / -h - 1, 1.0, []
    for n in range(1, len(rows) + 1):
        wanted.append(phi * factorial / math.expm1(-h))
        factorial *= n + 1
        phi = phi / -h - 1 / factorial
    matrix = np.vander(np.asarray(rows), increasing=True).T
    return [float(weight) for weight in np.linalg.solve(matrix, np.asarray(wanted))]


def euler_ancestral(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:
    """Euler further down than asked, then fresh noise back up, in the form for rectified flow. One model call.

    Keeps the flow's marginals: down to sigma_next * (1 + (sigma_next / sigma - 1) * eta), then rescale the signal to
    1 - sigma_next and fill the variance up to sigma_next^2 (as ComfyUI's euler_ancestral on flow models).
    """
    if sigma_next == 0 or solver.eta == 0:
        return euler(solver, state, denoiser, sigma_next)
    denoised = _evaluate(denoiser, state.x, state.sigma)
    down = sigma_next * (1 + (sigma_next / state.sigma - 1) * solver.eta)
    signal = (1 - sigma_next) / (1 - down)
    fresh = math.sqrt(max(sigma_next**2 - (down * signal) ** 2, 0.0))
    noise, rng = _noise(state)
    x = signal * _toward(state.x, denoised, down / state.sigma) + (fresh * solver.s_noise) * noise
    return replace(state, x=x, denoised=denoised, rng=rng)


def euler_sde(solver: Solver, state: SolverState, denoiser: Denoiser, sigma_next: float) -> SolverState:
    """Euler-Maruyama steps of the reverse SDE with the flow's marginals (SiT, arXiv 2401.08740, eq. 4). One model call.

    Diffusion w = eta * sigma, SiT's choice for its linear path; the score is -noise / sigma, so the drift is finite
    everywhere. The step to 0 takes the mean.
    """
    if sigma_next == 0 or solver.eta == 0:
        return euler(solver, state, denoiser, sigma_next)
    denoised = _evaluate(denoiser, state.x, state.sigma)
    dt = state.sigma - sigma_next
    velocity = (state.x - denoised) / state.sigma
    implied_noise = state.x + (1 - state.sigma) * velocity
    noise, rng = _noise(state)
    spread = solver.s_noise * math.sqrt(solver.eta * state.sigma * dt)
    x = state.x - dt * (velocity + solver.eta / 2 * implied_noise) + spread * noise
    return replace(state, x=x, denoised=denoised, rng=rng)


SOLVERS: dict[str, StepFunction] = {
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
    "euler_ancestral": euler_ancestral,
    "euler_sde": euler_sde,
}
STOCHASTIC = frozenset({"euler_ancestral", "euler_sde"})
