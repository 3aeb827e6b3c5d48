"""THE sigma convention: every noise level and every unit of a prediction is defined here and nowhere else.

    x        = (1 - sigma) * x0 + sigma * noise        sigma 1 = noise, 0 = clean
    velocity = noise - x0                              what a rectified-flow model predicts (arXiv 2209.03003)
    denoised = x - sigma * velocity                    the estimate of x0
    eps      = noise                                   what DDPM and the original DiT predict (arXiv 2006.11239)
    v        = alpha * noise - beta * x0               v-prediction (arXiv 2202.00512, eq. in section 4), where
               alpha = (1 - sigma) / norm, beta = sigma / norm, norm = sqrt((1 - sigma)^2 + sigma^2)

A variance-preserving (DDPM) model lives on x_vp = alpha * x0 + beta * noise with alpha^2 = alphas_cumprod, which is
the same line through x0 and noise at another length: x_vp = x / norm. So such a model is used by scaling its input
with `flow_to_vp` and converting its prediction with `to_denoised`.
All arithmetic is float32 at least; results come back in the dtype of x (or x0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import rearrange, repeat
from torch import Tensor

from .patches import DEFAULT_PATCH, Patch

Prediction = Literal["velocity", "eps", "v", "x0"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x, sigma (B,)) -> denoised, the estimate of x0


def expand_sigma(sigma: Tensor | float, like: Tensor, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """Give noise levels a shape that broadcasts against `like`.

    sigma is a number, () or (B,), one level per clip; (B, T) one per latent frame or (B, N) one per token of latents
    (B, C, T, H, W); (B, N) for tokens (B, N, P); or it already has as many axes as `like` (a mask x sigma).
    Levels per token follow the order of the tokens (frame by frame, row by row). ValueError when nothing fits.
    """
    levels = torch.as_tensor(sigma, device=like.device)
    if levels.ndim in {0, like.ndim}:
        return levels
    if levels.shape[0] not in (1, like.shape[0]):
        raise ValueError(
            f"{levels.shape[0]} noise levels for a batch of {like.shape[0]}: give one per clip, or a single one"
        )
    if levels.ndim == 1:
        return levels.reshape(-1, *([1] * (like.ndim - 1)))
    if levels.ndim == 2 and like.ndim == 3 and levels.shape[1] in (1, like.shape[1]):
        return rearrange(levels, "b n -> b n 1")
    if levels.ndim == 2 and like.ndim == 5:
        return _expand_in_video(levels, like, patch)
    raise ValueError(f"noise levels of shape {tuple(levels.shape)} do not fit {tuple(like.shape)}")


def _expand_in_video(levels: Tensor, like: Tensor, patch: Patch) -> Tensor:
    frames, height, width = like.shape[-3:]
    pt, ph, pw = patch
    if levels.shape[1] in (1, frames):
        return rearrange(levels, "b t -> b 1 t 1 1")
    if levels.shape[1] == (frames // pt) * (height // ph) * (width // pw):
        return repeat(
            levels,
            "b (t h w) -> b 1 (t pt) (h ph) (w pw)",
            t=frames // pt,
            h=height // ph,
            pt=pt,
            ph=ph,
            pw=pw,
        )
    raise ValueError(
        f"{levels.shape[1]} noise levels per clip do not fit {frames} latent frames of {height} x {width} "
        f"in patches of {pt} x {ph} x {pw}: give one per clip, per frame or per token"
    )


def working(x: Tensor, *others: Tensor | float) -> tuple[Tensor, ...]:
    """x and others on its device, everything in the widest dtype among them, float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    for other in others:
        if isinstance(other, Tensor) and other.ndim:
            dtype = torch.promote_types(dtype, other.dtype)
    return tuple(torch.as_tensor(value, dtype=dtype, device=x.device) for value in (x, *others))


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor | float, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """Forward diffusion: (1 - sigma) * x0 + sigma * noise. Shapes of sigma as in expand_sigma."""
    clean, noise_, level = working(x0, noise, expand_sigma(sigma, x0, patch))
    return ((1 - level) * clean + level * noise_).to(x0.dtype)


def target(
    x0: Tensor, noise: Tensor, sigma: Tensor | float, prediction: Prediction, patch: Patch = DEFAULT_PATCH
) -> Tensor:
    """What a model of this prediction type should answer for clean x0 and noise at sigma: the training target."""
    clean, noise_, level = working(x0, noise, expand_sigma(sigma, x0, patch))
    return _from_pair(clean, noise_, level, prediction).to(x0.dtype)


@dataclass(frozen=True)
class PathPoint:
    """A point on the path from clean tokens to noise, and what a model of one unit should answer there.

    x       (B, N, P) the noisy tokens
    target  (B, N, P) the answer, in the unit of the model
    level   (B, N) the noise level of each token; 0 where it is known
    """

    x: Tensor
    target: Tensor
    level: Tensor

    @classmethod
    def between(cls, clean: Tensor, noise: Tensor, level: Tensor, prediction: Prediction = "velocity") -> PathPoint:
        """Of tokens (B, N, P) at levels (B, N)."""
        return cls(torch.lerp(clean, noise, level[..., None]), target(clean, noise, level, prediction), level)

    @property
    def unknown(self) -> Tensor:
        """1 for tokens that have noise in them, 0 for known ones, (B, N)."""
        return (self.level > 0).to(self.target)

    def error(self, prediction: Tensor) -> Tensor:
        """How far a prediction (B, N, P) is from the answer."""
        return prediction.float() - self.target


def _from_pair(x0: Tensor, noise: Tensor, level: Tensor, prediction: Prediction) -> Tensor:
    if prediction == "velocity":
        return noise - x0
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    if prediction == "v":
        return ((1 - level) * noise - level * x0) / _norm(level)
    raise _unknown(prediction)


def _to_pair(value: Tensor, x: Tensor, level: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """(x0, noise) that a prediction at x implies."""
    if prediction == "velocity":
        return x - level * value, x + (1 - level) * value
    if prediction == "eps":
        if bool((level >= 1).any()):
            raise ValueError(
                "a model that predicts eps says nothing about the clean video at sigma 1 (pure noise): "
                "start the schedule below 1, for example at 0.9937 where the 1000 DDPM steps begin"
            )
        return (x - level * value) / (1 - level), value
    if prediction == "x0":
        # at sigma 0 x is x0 whatever the noise was; 0 keeps the velocity finite there (kept patches of a mask)
        noise = (x - (1 - level) * value) / torch.where(level > 0, level, torch.ones_like(level))
        return value, torch.where(level > 0, noise, value)
    if prediction == "v":
        norm = _norm(level)
        return ((1 - level) * x / norm - level * value) / norm, (level * x / norm + (1 - level) * value) / norm
    raise _unknown(prediction)


def _norm(level: Tensor) -> Tensor:
    return torch.sqrt((1 - level) ** 2 + level**2)


def _unknown(prediction: str) -> ValueError:
    return ValueError(f"unknown prediction type {prediction!r}: use one of {', '.join(PREDICTIONS)}")


def convert(
    value: Tensor,
    x: Tensor,
    sigma: Tensor | float,
    source: Prediction,
    wanted: Prediction,
    patch: Patch = DEFAULT_PATCH,
) -> Tensor:
    """Turn a prediction made at x from one unit into another; the result has the dtype of x.

    x is the flow state (1 - sigma) x0 + sigma noise, also for a VP model (see flow_to_vp). An x0 given at sigma 0
    becomes velocity 0. ValueError for eps at sigma 1 and for an unknown type.
    """
    if source not in PREDICTIONS or wanted not in PREDICTIONS:
        raise _unknown(wanted if source in PREDICTIONS else source)
    state, answer, level = working(x, value, expand_sigma(sigma, x, patch))
    if source == wanted:
        return answer.to(x.dtype)
    x0, noise = _to_pair(answer, state, level, source)
    return _from_pair(x0, noise, level, wanted).to(x.dtype)


def to_denoised(
    value: Tensor, x: Tensor, sigma: Tensor | float, prediction: Prediction, patch: Patch = DEFAULT_PATCH
) -> Tensor:
    """The estimate of x0 that a prediction at x implies."""
    return convert(value, x, sigma, prediction, "x0", patch)


# ---------------------------------------------------------------------------------------------------------------
# Published variance-preserving (DDPM) noise levels on our sigma


def ddpm_alphas_cumprod(
    num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, *, scaled: bool = False
) -> Tensor:
    """Cumulative signal power of DDPM's beta schedule, float64 (num_steps,).

    The defaults are the linear betas of DDPM (arXiv 2006.11239, section 4), DiT and Latte. `scaled` interpolates
    the square roots instead (latent diffusion; CogVideoX with 0.00085, 0.012).
    """
    if num_steps < 1 or not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"betas from {beta_start} to {beta_end} in {num_steps} steps: they must rise within (0, 1)")
    power = 0.5 if scaled else 1.0
    betas = torch.linspace(beta_start**power, beta_end**power, num_steps, dtype=torch.float64) ** (1 / power)
    return torch.cumprod(1 - betas, dim=0)


def vp_to_flow_sigma(alphas_cumprod: Tensor) -> Tensor:
    """Our sigma of a VP level: sqrt(1 - abar) / (sqrt(abar) + sqrt(1 - abar)), so that noise / signal is the same."""
    signal, noise = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
    return noise / (signal + noise)


def flow_to_vp(x: Tensor, sigma: Tensor | float, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """The state alpha * x0 + beta * noise that a VP model expects for our x: x / sqrt((1 - sigma)^2 + sigma^2)."""
    state, level = working(x, expand_sigma(sigma, x, patch))
    return (state / _norm(level)).to(x.dtype)


def vp_timestep(sigma: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The (fractional) step of a VP model at our sigma: linear in log noise/signal, clamped at both ends."""
    level = sigma.cpu() if sigma.device.type == "mps" else sigma  # GPUs of Apple know no float64
    table = vp_to_flow_sigma(alphas_cumprod.to(level.device).double()).logit()
    wanted = level.double().clamp(1e-12, 1 - 1e-12).logit()
    high = torch.searchsorted(table, wanted.contiguous()).clamp(1, len(table) - 1)
    weight = ((wanted - table[high - 1]) / (table[high] - table[high - 1])).clamp(0, 1)
    return (high - 1 + weight).to(sigma)


# ---------------------------------------------------------------------------------------------------------------
# Learned variance (iDDPM, arXiv 2102.09672)


def split_learned_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """Separate a model output (B, C or 2C, ...) into the prediction (B, C, ...) and the variance half, if any."""
    if output.shape[1] == channels:
        return output, None
    if output.shape[1] == 2 * channels:
        prediction, variance = output.chunk(2, dim=1)
        return prediction, variance
    raise ValueError(
        f"the model gave {output.shape[1]} channels; expected {channels}, or {2 * channels} with learned variance"
    )
