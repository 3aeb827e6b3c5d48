"""Guidance: pure functions that combine a conditional and an unconditional prediction, and two that wrap denoisers.

All take denoised predictions (B, ...) of one state and give a denoised prediction in their dtype; arithmetic is float32
at least. Products and norms are taken per clip, over everything but the batch. `scale` 1 means no guidance: cond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import reduce
from torch import Tensor

from .flow import Denoiser, working
from .transfer import sent

MODES = ("cfg", "rescale", "apg", "cfg_zero_star")
UNITS = ("percent", "sigma")


def cfg(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598, eq. 6): uncond + scale * (cond - uncond)."""
    c, u = working(cond, uncond)
    return (u + scale * (c - u)).to(cond.dtype)


def cfg_rescale(cond: Tensor, uncond: Tensor, scale: float, share: float = 0.7) -> Tensor:
    """CFG whose standard deviation is pulled back to that of cond (arXiv 2305.08891, eqs. 15 and 16).

    `share` (phi in the paper) mixes the rescaled result with the plain one: 0 is plain CFG. Against washed-out contrast
    and overexposure at high scales.
    """
    c, u = working(cond, uncond)
    guided = u + scale * (c - u)
    factor = _std(c) / _std(guided).clamp(min=1e-12)
    return (guided * (share * factor + (1 - share))).to(cond.dtype)


@dataclass(frozen=True)
class APG:
    """Settings of adaptive projected guidance.

    eta       how much of the update along cond is kept; that part drives oversaturation. 1 with no limit is plain CFG
    limit     longest update allowed, as a norm over the whole clip; 0 is no limit
    momentum  weight of the running update; the paper uses a negative one (-0.5)
    """

    eta: float = 0.0
    limit: float = 0.0
    momentum: float = 0.0


def apg(
    cond: Tensor, uncond: Tensor, scale: float, settings: APG, running: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Adaptive projected guidance (arXiv 2410.02416, algorithm 1).

    Returns the prediction and the running update, which the caller hands to the next step (None for the first).
    """
    c, u = working(cond, uncond)
    update = c - u
    if running is not None:
        update = update + settings.momentum * running.to(update)
    shortened = update
    if settings.limit > 0:
        shortened = update * (settings.limit / _norm(update).clamp(min=1e-12)).clamp(max=1)
    along = _dot(shortened, c) / _dot(c, c).clamp(min=1e-24) * c
    kept = shortened - along + settings.eta * along
    return (c + (scale - 1) * kept).to(cond.dtype), update


def cfg_zero_star(cond: Tensor, uncond: Tensor, x: Tensor, scale: float) -> Tensor:
    """CFG-Zero* (arXiv 2503.18886, eq. 8): the unconditional velocity is first scaled to fit the conditional one best.

    The formula is about velocities (x - denoised) / sigma; sigma cancels, so only the state x is needed. The paper's
    second part, velocity 0 in the first steps, is zero_init.
    """
    c, u, state = working(cond, uncond, x)
    velocity_c, velocity_u = state - c, state - u
    fit = _dot(velocity_c, velocity_u) / _dot(velocity_u, velocity_u).clamp(min=1e-12)
    return (state - fit * velocity_u - scale * (velocity_c - fit * velocity_u)).to(cond.dtype)


def zero_init(sigma: float | Tensor, sigmas: Tensor, steps: int) -> bool:
    """Whether a step at sigma is one of the first `steps` of the schedule, where CFG-Zero* sets the velocity to 0."""
    return steps > 0 and len(sigmas) > steps and bool(sigmas[steps] < sigma)


def hidden_history(x: Tensor, change: Tensor, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A state whose known places (change 0) are noise at level 1, and the change that says so: change x sigma is 1.

    x, noise (B, C, ...), change broadcastable to them, sigma (B,).
    """
    change = change.to(x.device)
    known = change == 0
    level = sigma.reshape(-1, *([1] * (x.ndim - 1))).to(change)
    return torch.where(known, noise.to(x), x), torch.where(known, 1 / level, change)


def history_guidance(guided: Tensor, cond: Tensor, without: Tensor, scale: float) -> Tensor:
    """Lead away from what the model would do if it did not see the known places: guided + scale * (cond - without).

    Vanilla history guidance (arXiv 2502.06764), added to the guidance by text. without: the prediction with the
    same text for `hidden_history`. scale 0 changes nothing.
    """
    total, c, other = working(guided, cond, without)
    return (total + scale * (c - other)).to(guided.dtype)


def scaled_along(guided: Tensor, cond: Tensor, scale: float, scales: Tensor) -> Tensor:
    """A prediction (B, C, T, H, W) that was guided with one scale, as if each latent had its own, scales (T,).

    cond + (s - 1) / (scale - 1) * (guided - cond): plain cfg with s, and for the other ways their correction at that
    strength. ValueError for scale 1, which is no guidance.
    """
    if scale == 1:
        raise ValueError("a prediction of scale 1 was not guided, so there is nothing to scale")
    g, c = working(guided, cond)
    factors = sent(((scales - 1) / (scale - 1)).to(g.dtype), g.device).reshape(-1, 1, 1)
    return (c + factors * (g - c)).to(guided.dtype)


def in_interval(sigma: float, start: float = 1.0, end: float = 0.0) -> bool:
    """Whether guidance is on at sigma: end < sigma <= start (guidance interval, arXiv 2404.07724, eq. 5)."""
    # sigmas are float32: 0.8 as typed must meet 0.8 in the schedule
    return bool(np.float32(end) < np.float32(sigma) <= np.float32(start))


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How to guide a run: what a guider node holds. Without momentum, so that a step depends on nothing before it.

    mode         cfg, rescale, apg or cfg_zero_star
    scale        1 is no guidance
    unit         what start and end mean: "percent" of the run, 0 to 1 rising, or "sigma", falling
    rescale      share of cfg_rescale
    apg          settings of APG
    zero_steps   first steps of a run that CFG-Zero* leaves out
    """

    mode: str = "cfg"
    scale: float = 1.0
    unit: str = "percent"
    start: float = 0.0
    end: float = 1.0
    rescale: float = 0.7
    apg: APG = APG()
    zero_steps: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown guidance {self.mode!r}: use one of {', '.join(MODES)}")
        if self.unit not in UNITS:
            raise ValueError(f"unknown unit of the interval {self.unit!r}: use one of {', '.join(UNITS)}")
        falls = self.unit == "sigma"
        first, last = (self.end, self.start) if falls else (self.start, self.end)
        if not 0 <= first <= last <= 1:
            rule = "falling sigmas" if falls else "rising percentages"
            raise ValueError(f"guidance from {self.start} to {self.end}: give {rule} within 0 to 1")

    @property
    def always(self) -> bool:
        """Whether the interval is the whole run, so that no noise level needs to be looked at."""
        return self.unit == "percent" and self.start == 0 and self.end == 1

    def bounds(self, percent_to_sigma: Callable[[float], float]) -> tuple[float, float]:
        """The interval as sigmas, first the higher one."""
        if self.unit == "sigma":
            return self.start, self.end
        return percent_to_sigma(self.start), percent_to_sigma(self.end)

    def combine(self, cond: Tensor, uncond: Tensor, x: Tensor) -> Tensor:
        """Both predictions at x made into one."""
        if self.mode == "rescale":
            return cfg_rescale(cond, uncond, self.scale, self.rescale)
        if self.mode == "apg":
            return apg(cond, uncond, self.scale, self.apg)[0]
        if self.mode == "cfg_zero_star":
            return cfg_zero_star(cond, uncond, x, self.scale)
        return cfg(cond, uncond, self.scale)

    def denoiser(
        self,
        cond: Denoiser,
        uncond: Denoiser,
        percent_to_sigma: Callable[[float], float],
        *,
        without: Denoiser | None = None,
        history: float = 0.0,
    ) -> Denoiser:
        """Both denoisers as one, which asks only `cond` outside the interval and at scale 1.

        without: `cond` for `hidden_history`, from which the result is led away by the scale `history`.
        """
        start, end = self.bounds(percent_to_sigma)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            prediction = guided = cond(x, sigma)
            if self.scale != 1 and (self.always or in_interval(float(sigma.max()), start, end)):
                guided = self.combine(prediction, uncond(x, sigma), x)
            return guided if without is None else history_guidance(guided, prediction, without(x, sigma), history)

        return denoise


def _per_clip(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *([1] * (like.ndim - 1)))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return _per_clip(reduce(a * b, "b ... -> b", "sum"), a)


def _norm(a: Tensor) -> Tensor:
    return _dot(a, a).sqrt()


def _std(a: Tensor) -> Tensor:
    return _per_clip(a.flatten(1).std(dim=1), a)
