"""Noise schedules: pure functions that give the n + 1 sigmas of an n-step run, from sigma_max down to 0, float32.

`sigmas()` is the front door: it picks a schedule by name, warps it by a shift and cuts it for denoise < 1. The
functions below it give the unshifted curves. Sigma is that of flow.py, so 1 is pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .flow import Prediction, ddpm_alphas_cumprod, vp_to_flow_sigma

Schedule = Callable[[int, float], Tensor]

MAX_STEPS = 10_000


def linear(steps: int, sigma_max: float = 1.0) -> Tensor:
    """Equal steps in sigma, the schedule of rectified flow (arXiv 2209.03003); float64 (steps + 1,)."""
    return torch.linspace(sigma_max, 0.0, steps + 1, dtype=torch.float64)


def cosine(steps: int, sigma_max: float = 1.0) -> Tensor:
    """The cosine schedule of iDDPM (arXiv 2102.09672, eq. 17, s = 0.008) mapped to our sigma; float64 (steps + 1,)."""
    offset = 0.008

    def angle(t: Tensor) -> Tensor:
        return (t + offset) / (1 + offset) * math.pi / 2

    def curve(t: Tensor) -> Tensor:
        abar = angle(t).cos() ** 2 / angle(torch.zeros_like(t)).cos() ** 2
        return vp_to_flow_sigma(abar.clamp(0, 1))

    return curve(torch.linspace(_time_of(curve, sigma_max), 0.0, steps + 1, dtype=torch.float64))


def _time_of(curve: Callable[[Tensor], Tensor], sigma: float) -> float:
    """Where on [0, 1] a rising curve reaches sigma, by bisection."""
    low, high = 0.0, 1.0
    if sigma >= 1:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        below = float(curve(torch.tensor([middle], dtype=torch.float64))) < sigma
        low, high = (middle, high) if below else (low, middle)
    return high


def karras(steps: int, sigma_max: float = 1.0, sigma_min: float = 1e-3, rho: float = 7.0) -> Tensor:
    """Equal steps in sigma^(1/rho) (EDM, arXiv 2206.00364, eq. 5), down to sigma_min, then 0; float64 (steps + 1,).

    Applied to flow sigmas as they are, as ComfyUI and diffusers do.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _ends_in_zero((high + ramp * (low - high)) ** rho)


def exponential(steps: int, sigma_max: float = 1.0, sigma_min: float = 1e-3) -> Tensor:
    """Equal steps in log sigma, down to sigma_min, then 0 (k-diffusion); float64 (steps + 1,)."""
    return _ends_in_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64).exp())


def beta(steps: int, sigma_max: float = 1.0, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Quantiles of the beta distribution: dense at both ends ("Beta Sampling is All You Need", arXiv 2407.12173)."""
    return beta_quantile(torch.linspace(1, 0, steps + 1, dtype=torch.float64), alpha, beta) * sigma_max


def beta_quantile(share: Tensor, alpha: float, beta: float) -> Tensor:
    """The inverse of the beta distribution function (scipy.stats.beta.ppf), good to 1e-6 for alpha, beta >= 0.5.

    x = sin^2(angle) takes away the poles of the density at 0 and 1 that make it awkward to integrate.
    """
    if alpha < 0.5 or beta < 0.5:
        raise ValueError(f"beta schedule with alpha {alpha}, beta {beta}: both must be at least 0.5")
    grid = torch.linspace(0, 1, 40_001, dtype=torch.float64)
    # crowd the grid at both ends, where sin^(2 alpha - 1) may have an infinite slope
    angle = (grid**3 * (10 - 15 * grid + 6 * grid**2)) * math.pi / 2
    density = angle.sin() ** (2 * alpha - 1) * angle.cos().clamp(min=0) ** (2 * beta - 1)
    area = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumulative_trapezoid(density, angle)])
    area = area / area[-1]
    high = torch.searchsorted(area, share.double().contiguous()).clamp(1, len(area) - 1)
    weight = (share - area[high - 1]) / (area[high] - area[high - 1]).clamp(min=1e-300)
    return torch.sin(torch.lerp(angle[high - 1], angle[high], weight.clamp(0, 1))) ** 2


def linear_quadratic(steps: int, sigma_max: float = 1.0, threshold: float = 0.025) -> Tensor:
    """Mochi's schedule: half of the steps linear through the first `threshold` of the way, the rest quadratic to 0.

    Source: genmoai/mochi, linear_quadratic_schedule; float64 (steps + 1,).
    """
    if steps == 1:
        return torch.tensor([sigma_max, 0.0], dtype=torch.float64)
    slow = steps // 2
    fast = steps - slow
    lag = slow - threshold * steps
    curvature = lag / (slow * fast**2)
    slope = threshold / slow - 2 * lag / fast**2
    step = torch.arange(steps, dtype=torch.float64)
    done = torch.where(step < slow, step * threshold / slow, curvature * step**2 + slope * step + curvature * slow**2)
    return sigma_max * torch.cat([1 - done, torch.zeros(1, dtype=torch.float64)])


def ddpm(steps: int, sigma_max: float = 1.0) -> Tensor:
    """The 1000 linear-beta steps of DDPM and the original DiT, respaced to `steps` and mapped to our sigma.

    Evenly spaced as DiT does it (guided-diffusion respace.py): both ends kept, steps rounded. Begins at 0.9937, below
    1, because that is the noisiest level which those models saw; float64 (steps + 1,).
    """
    table = vp_to_flow_sigma(ddpm_alphas_cumprod())
    table = table[table <= sigma_max + 1e-9]
    if steps > len(table):
        raise ValueError(
            f"the DDPM schedule has {len(table)} levels up to sigma {sigma_max}, so not {steps} steps: use fewer"
        )
    chosen = torch.linspace(len(table) - 1, 0, steps, dtype=torch.float64).round().long()
    return _ends_in_zero(table[chosen])


def _ends_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "cosine": cosine,
    "karras": karras,
    "exponential": exponential,
    "beta": beta,
    "linear_quadratic": linear_quadratic,
    "ddpm": ddpm,
}


# ---------------------------------------------------------------------------------------------------------------
# Shift: larger videos need more of the run at high noise


def shift_sigmas(sigmas: Tensor, shift: float) -> Tensor:
    """Warp sigmas towards noise: shift * s / (1 + (shift - 1) * s) (SD3, arXiv 2403.03206, eq. 23); 1 is no change."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def sigma_of(shift: float) -> Callable[[float], float]:
    """What turns a share of a run, 0 to 1, into the sigma reached there."""
    return lambda percent: float(shift_sigmas(torch.tensor(1 - percent), shift))


def linear_mu_shift(num_tokens: int, base: tuple[int, float], top: tuple[int, float]) -> float:
    """exp(mu) with mu linear in the number of tokens, through (tokens, mu) at base and top (Flux, LTX-Video)."""
    slope = (top[1] - base[1]) / (top[0] - base[0])
    return math.exp(base[1] + slope * (num_tokens - base[0]))


def flux_shift(num_tokens: int) -> float:
    """Flux: mu from 0.5 at 256 tokens to 1.15 at 4096 (black-forest-labs/flux, sampling.py get_schedule)."""
    return linear_mu_shift(num_tokens, (256, 0.5), (4096, 1.15))


def ltx_shift(num_tokens: int) -> float:
    """LTX-Video: mu from 0.95 at 1024 tokens to 2.05 at 4096 (Lightricks/LTX-Video, rf.py)."""
    return linear_mu_shift(num_tokens, (1024, 0.95), (4096, 2.05))


def sqrt_shift(num_tokens: int, base_tokens: int = 1024) -> float:
    """Square root of the number of tokens over the base (SD3, section 5.3.2; Open-Sora 1.2 in space and time).

    1024 tokens are one frame of 512 x 512 pixels, Open-Sora's base.
    """
    return math.sqrt(num_tokens / base_tokens)


AUTO_SHIFTS: dict[str, Callable[[int], float]] = {"flux": flux_shift, "ltx": ltx_shift, "sqrt": sqrt_shift}


def auto_shift(rule: str, num_tokens: int) -> float:
    """The shift that a rule of AUTO_SHIFTS gives a video of num_tokens patches."""
    if rule not in AUTO_SHIFTS:
        raise ValueError(f"unknown shift rule {rule!r}: use one of {', '.join(AUTO_SHIFTS)}")
    if num_tokens < 1:
        raise ValueError(f"a video of {num_tokens} tokens has no shift: it needs at least one patch")
    return AUTO_SHIFTS[rule](num_tokens)


# ---------------------------------------------------------------------------------------------------------------


def sigmas(schedule: str, steps: int, *, shift: float = 1.0, denoise: float = 1.0, sigma_max: float = 1.0) -> Tensor:
    """The sigmas of a run: float32 (steps + 1,), strictly falling from sigma_max to 0.

    shift      warps any schedule towards noise (> 1) or towards clean (< 1); the ends stay
    denoise    below 1 keeps the last `steps` of round-down(steps / denoise), as ComfyUI's BasicScheduler does;
               0 gives no steps at all (an empty tensor)
    sigma_max  where the whole schedule begins: 1, or less for models that never saw pure noise
    ValueError for an unknown schedule and values out of range.
    """
    _check(schedule, steps, shift, denoise, sigma_max)
    if denoise == 0:
        return torch.empty(0)
    total = steps if denoise == 1 else int(steps / denoise)
    start = float(shift_sigmas(torch.tensor(sigma_max, dtype=torch.float64), 1 / shift))
    curve = shift_sigmas(SCHEDULES[schedule](total, start), shift)[-(steps + 1) :].float()
    if not bool((curve.diff() < 0).all()):
        raise ValueError(
            f"{schedule} with {steps} steps and shift {shift} has two equal sigmas in float32: "
            "use fewer steps or a shift nearer to 1"
        )
    return curve


def highest_sigma(prediction: Prediction) -> float:
    """Where a run may begin: 1, or for eps the last level of DDPM, since pure noise tells such a model nothing."""
    return float(vp_to_flow_sigma(ddpm_alphas_cumprod()[-1])) if prediction == "eps" else 1.0


def _check(schedule: str, steps: int, shift: float, denoise: float, sigma_max: float) -> None:
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: use one of {', '.join(SCHEDULES)}")
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"a schedule needs 1 to {MAX_STEPS} steps, not {steps}")
    if not 0.001 <= shift <= 1000:
        raise ValueError(f"shift {shift} is out of range: use 0.001 to 1000 (1 leaves the schedule as it is)")
    if not 0 <= denoise <= 1 or (denoise > 0 and steps / denoise > MAX_STEPS):
        raise ValueError(f"denoise {denoise} is out of range: use 0 to 1, and steps / denoise up to {MAX_STEPS}")
    if not 0.01 <= sigma_max <= 1:
        raise ValueError(f"sigma_max {sigma_max} is out of range: sigma 1 is pure noise, use 0.01 to 1")
