"""What a VAE is trained to do: settings, and the losses that they weigh.

Reconstruction (L1, squared error, gradients at several scales) and KL always; steadiness over time, a perceptual
distance and a critic where asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...geometry import OURS
from ...metrics.perceptual import load_perceptual
from ...transfer import sent
from ...vae.autoencoder import PRESETS, TIME, VideoVAE
from ...vae.layers import TimeCache
from ..optim.optimiser import Optimiser
from ..run.ranges import check_settings
from .critic import Adversary


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """Settings of a run; all of them are written to its config.json."""

    preset: str = "toy"
    steps: int = 3000
    minutes: float = 0.0  # after which the run ends, its learning rate lowered in time; 0 = when all steps are done
    decay: float = 0.3  # share of the run over which the learning rate falls to zero
    batch: int = 4
    crop: int = 64
    frames: tuple[int, ...] = (17, 9)  # lengths of the crops, drawn in turn
    images: float = 0.3  # share of the steps on single frames: stills, and frames of the clips
    learning_rate: float = 1e-3
    clip_deviations: float = 0.0  # above the mean of late, at which gradients are cut; 0 = at 1 only
    kl_weight: float = 1e-5
    gradient_scales: int = 1  # scales, each half the one before, at which gradients are compared
    steadiness: float = 0.0  # weight of the squared error of the change from frame to frame
    perceptual: float = 0.0  # weight of the perceptual distance
    perceptual_network: str = "vgg"
    perceptual_frames: int = 8  # random frames of a batch that it looks at
    adversarial: float = 0.0  # weight of the critic
    adversarial_from: float = 0.5  # share of the run after which the critic comes in
    latent_noise: float = 0.05  # largest deviation of the noise on a clip's latents in decoder-only training
    freeze_encoder: bool = False
    seed: int = 0
    save_every: int = 250
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        check_settings(self, PRESETS)
        wrong = [frames for frames in self.frames if not OURS.fits(frames)]
        if wrong or not self.frames:
            raise ValueError(f"crops have 1 + 4k frames, not {wrong or 'none'}: take for example 17,9")

    @property
    def adversarial_step(self) -> int:
        """The first step with the critic."""
        return round(self.adversarial_from * self.steps)


@dataclass(frozen=True)
class Judged:
    """The losses of a batch, and what the critic needs to learn from it."""

    loss: Tensor
    error: Tensor  # mean squared error
    parts: dict[str, Tensor]  # for the log
    output: Tensor  # (B, F, H, W, 3), as is the target
    target: Tensor


class Objective:
    """The losses of one run. Carries the critic's state through checkpoints beside the VAE's optimiser."""

    def __init__(self, settings: VAETraining, optimiser: Optimiser, device: torch.device) -> None:
        self.settings, self.optimiser, self.perceptual, self.adversary = settings, optimiser, None, None
        if settings.perceptual:
            dtype = getattr(torch, settings.dtype)
            self.perceptual = load_perceptual(settings.perceptual_network).to(device, dtype)
        if settings.adversarial:
            self.adversary = Adversary(
                seed=settings.seed,
                learning_rate=settings.learning_rate / 4,
                first_step=settings.adversarial_step,
                device=device,
            )

    def judge(self, vae: VideoVAE, video: Tensor, rng: torch.Generator, step: int) -> Judged:
        """The losses of a batch of pixels (B, 3, F, H, W) at a step of the run."""
        settings = self.settings
        output, target, kl = reconstruct(vae, video, settings, rng)
        loss = reconstruction_loss(output, target, settings.gradient_scales)
        parts: dict[str, Tensor] = {} if settings.freeze_encoder else {"kl": kl}
        if settings.steadiness and output.shape[1] > 1:
            parts["steadiness"] = (output - target).diff(dim=1).square().mean()
            loss = loss + settings.steadiness * parts["steadiness"]
        if self.perceptual is not None:
            order = torch.randperm(output.shape[0] * output.shape[1], generator=rng)[: settings.perceptual_frames]
            chosen = sent(order, output.device)
            pairs = (rearrange(frames, "b f h w c -> (b f) c h w")[chosen] for frames in (output, target))
            parts["perceptual"] = self.perceptual(*pairs).mean()
            loss = loss + settings.perceptual * parts["perceptual"]
        if self.adversary is not None and step >= settings.adversarial_step:
            last = vae.decoder.conv_out.weight
            parts["adversarial"] = self.adversary.term(rearrange(output, "b f h w c -> b c f h w"), loss, last)
            loss = loss + settings.adversarial * parts["adversarial"]
        error = (output - target).square().mean()
        return Judged(loss + settings.kl_weight * kl, error, parts, output, target)

    def learn(self, judged: Judged, step: int, scale: float) -> dict[str, Tensor]:
        """Let the critic learn from a batch, after the VAE did; what the log may say, still where it was computed."""
        said = {name: value.detach() for name, value in judged.parts.items()}
        if self.adversary is not None and step >= self.settings.adversarial_step:
            video, true = (rearrange(frames, "b f h w c -> b c f h w") for frames in (judged.output, judged.target))
            said["critic"] = self.adversary.learn(video, true, scale)
        return said

    def state(self) -> dict[str, Tensor]:
        """The optimiser's state and the critic's."""
        return self.optimiser.state() | (self.adversary.state() if self.adversary else {})

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Continue from `state()` after `steps` steps; KeyError when it belongs to another model."""
        self.optimiser.load(state, steps)
        if self.adversary:
            self.adversary.load(state, steps)


def reconstruct(
    vae: VideoVAE, video: Tensor, settings: VAETraining, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (B, 3, F, H, W) through the VAE with noise on their latents: output and target (B, F, H, W, 3), and KL.

    KL is that of the encoder's posterior from a standard normal, as a mean over the latents' numbers (Kingma and
    Welling 2014, appendix B).
    """
    dtype = vae.encoder.linear.weight.dtype
    target = with_first_block(video)
    with torch.set_grad_enabled(not settings.freeze_encoder):
        mean, logvar = vae.posterior(target.to(dtype), TimeCache())
    noise = sent(torch.randn(mean.shape, generator=rng), mean.device).to(mean)
    if settings.freeze_encoder:
        # up to the errors that a DiT makes, so that the decoder learns to join latents that do not quite fit
        amount = settings.latent_noise * sent(torch.rand((len(mean), 1, 1, 1, 1), generator=rng), mean.device).to(mean)
        latents, kl = mean + amount * noise * vae.latent_std.to(mean), mean.new_zeros(())
    else:
        logvar = logvar.float().clamp(-12, 4) - 6  # starts at a deviation of 0.05
        latents = mean + (0.5 * logvar).exp().to(dtype) * noise
        kl = 0.5 * (mean.float().square() + logvar.exp() - 1 - logvar).mean()
    output = vae.decoder(latents, TimeCache())[:, TIME - 1 :].float()
    return output, target[:, TIME - 1 :], kl


def with_first_block(video: Tensor) -> Tensor:
    """(B, 3, 1 + 4k, H, W) -> channel-last (B, 4 + 4k, H, W, 3): the first frame fills a block."""
    padded = torch.cat([video[:, :, :1].expand(-1, -1, TIME - 1, -1, -1), video], dim=2)
    return rearrange(padded, "b c f h w -> b f h w c")


def reconstruction_loss(video: Tensor, target: Tensor, scales: int = 1) -> Tensor:
    """L1 + squared error + L1 of first differences in time, height and width; all (B, F, H, W, 3).

    scales: the differences in height and width also of so many scales, each half the one before.
    """
    error = video - target
    loss = error.abs().mean() + 4 * error.square().mean()
    for axis in (1, 2, 3):
        if error.shape[axis] > 1:
            loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
    coarse = rearrange(error, "b f h w c -> (b f) c h w")
    for _ in range(scales - 1):
        coarse = F.avg_pool2d(coarse, 2)
        loss = loss + 0.5 * (coarse.diff(dim=2).abs().mean() + coarse.diff(dim=3).abs().mean())
    return loss
