"""Train the video VAE: reconstruction (L1, squared and gradient error) + KL, on random crops, lengths and loops.

The linear halves are the principal components of the blocks in the data and stay so: training begins at a usable codec
and the residual networks learn what a linear map cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..checkpoints import Checkpoint, save_checkpoint
from ..pixels import to_uint8
from ..vae.autoencoder import BLOCK, PRESETS, TIME, VideoVAE
from ..vae.layers import TimeCache, space_to_depth
from .optim import EMA, Optimiser, learning_rate_scale
from .runs import Run, generator, strip
from .stopping import StoppedError, asked_to_stop


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """Settings of a run; all of them are written to its config.json."""

    preset: str = "toy"
    steps: int = 3000
    decay: float = 0.3  # share of the run over which the learning rate falls to zero
    batch: int = 4
    crop: int = 64
    frames: tuple[int, ...] = (17, 9, 1)  # lengths of the crops, drawn in turn
    learning_rate: float = 1e-3
    kl_weight: float = 1e-5
    latent_noise: float = 0.05  # deviation of the noise on latents in decoder-only training
    freeze_encoder: bool = False
    seed: int = 0
    save_every: int = 250
    dtype: str = "bfloat16"


@torch.no_grad()
def start_at_principal_components(
    vae: VideoVAE, clips: Sequence[Tensor], *, blocks: int = 40_000, seed: int = 0
) -> None:
    """Set the linear halves to the PCA of 4 x 8 x 8 blocks of clips (3, F, H, W); latents get unit variance."""
    picked, rng = [], np.random.default_rng(seed)
    for clip in clips:
        still = clip[:, :1].expand(-1, TIME, -1, -1)
        moving = clip[:, 1 : 1 + (clip.shape[1] - 1) // TIME * TIME]
        cells = space_to_depth(torch.cat([still, moving], dim=1).permute(1, 2, 3, 0)[None], BLOCK).flatten(0, 3)
        picked.append(cells[torch.from_numpy(rng.permutation(len(cells))[: blocks // len(clips) + 1])])
    data = torch.cat(picked).double()
    mean = data.mean(dim=0)
    _, scales, axes = torch.linalg.svd(data - mean, full_matrices=False)
    count = vae.config.latent_channels
    deviation = scales[:count] / (len(data) - 1) ** 0.5
    encode, decode = axes[:count] / deviation[:, None], (axes[:count] * deviation[:, None]).T
    vae.encoder.linear.weight.copy_(encode)
    vae.encoder.linear.bias.copy_(-encode @ mean)
    vae.decoder.linear.weight.copy_(decode)
    vae.decoder.linear.bias.copy_(mean)


def crops(clips: Sequence[Tensor], settings: VAETraining, rng: torch.Generator, frames: int) -> Tensor:
    """A batch of random crops (B, 3, frames, crop, crop), half of them mirrored; shorter where no clip is so long."""
    frames = min(frames, max(clip.shape[1] for clip in clips))
    clips = [clip for clip in clips if clip.shape[1] >= frames]
    crop = min(settings.crop, *(side for clip in clips for side in clip.shape[2:]))
    batch = []
    images = max(1, 4 // frames)  # single frames are cheap: take more of them

    def draw(high: int) -> int:
        return int(torch.randint(max(high, 1), (1,), generator=rng))

    for _ in range(settings.batch * images):
        clip = clips[draw(len(clips))]
        t, y, x = (draw(clip.shape[i] - n + 1) for i, n in ((1, frames), (2, crop), (3, crop)))
        piece = clip[:, t : t + frames, y : y + crop, x : x + crop]
        batch.append(piece.flip(-1) if draw(2) else piece)
    return torch.stack(batch)


def reconstruction_loss(video: Tensor, target: Tensor) -> Tensor:
    """L1 + squared error + L1 of first differences in time, height and width; all (B, F, H, W, 3)."""
    error = video - target
    loss = error.abs().mean() + 4 * error.square().mean()
    for axis in (1, 2, 3):
        if error.shape[axis] > 1:
            loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
    return loss


def with_first_block(video: Tensor) -> Tensor:
    """(B, 3, 1 + 4k, H, W) -> channel-last (B, 4 + 4k, H, W, 3): the first frame fills a block."""
    padded = torch.cat([video[:, :, :1].expand(-1, -1, TIME - 1, -1, -1), video], dim=2)
    return rearrange(padded, "b c f h w -> b f h w c")


def training_loss(vae: VideoVAE, video: Tensor, settings: VAETraining, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Loss and the plain squared error (both scalar) of a batch of pixels (B, 3, F, H, W)."""
    dtype = vae.encoder.linear.weight.dtype
    target = with_first_block(video)
    with torch.set_grad_enabled(not settings.freeze_encoder):
        mean, logvar = vae.posterior(target.to(dtype), TimeCache())
    noise = torch.randn(mean.shape, generator=rng).to(mean)
    if settings.freeze_encoder:
        latents, kl = mean + settings.latent_noise * noise * vae.latent_std.to(mean), mean.new_zeros(())
    else:
        logvar = logvar.float().clamp(-12, 4) - 6  # starts at a deviation of 0.05
        latents = mean + (0.5 * logvar).exp().to(dtype) * noise
        kl = 0.5 * (mean.float().square() + logvar.exp() - 1 - logvar).mean()
    output = vae.decoder(latents, TimeCache())[:, TIME - 1 :].float()
    target = target[:, TIME - 1 :]
    return reconstruction_loss(output, target) + settings.kl_weight * kl, (output - target).square().mean()


@torch.no_grad()
def measure_statistics(vae: VideoVAE, clips: Sequence[Tensor]) -> None:
    """Store the mean and deviation per channel of the clips' latents in the VAE."""
    vae.latent_mean.zero_()
    vae.latent_std.fill_(1)
    latents = torch.cat(
        [vae.encode(clip[None].to(vae.encoder.linear.weight.dtype)).float().flatten(2)[0] for clip in clips], dim=1
    )
    vae.latent_mean.copy_(latents.mean(dim=1))
    vae.latent_std.copy_(latents.std(dim=1))


@torch.no_grad()
def evaluate(vae: VideoVAE, clips: Sequence[Tensor], path: Path | None = None) -> dict[str, float]:
    """PSNR in dB over held-out clips (3, F, H, W): over all pixels, and over saturated ones (the coloured objects).

    path: where to save pairs of rows, a clip and below it what the VAE makes of it (clips of the first one's size).
    """
    errors, coloured, rows = [], [], []
    for clip in clips:
        output = vae.decode(vae.encode(clip[None].to(vae.encoder.linear.weight.dtype)))[0].float().clamp(-1, 1)
        error = ((output - clip) / 2).square().mean(dim=0)
        saturation = (clip.amax(dim=0) - clip.amin(dim=0)) / 2
        errors.append(error.mean())
        coloured.append(error[saturation > 0.4])
        rows += [to_uint8(clip), to_uint8(output)]
    if path is not None:
        strip([row for row in rows if row.shape == rows[0].shape][:16], path)
    objects = torch.cat(coloured)
    return {
        "psnr": round(float(-10 * torch.stack(errors).mean().log10()), 2),
        "object_psnr": round(float(-10 * objects.mean().log10()), 2) if len(objects) else float("nan"),
    }


def train(
    settings: VAETraining,
    clips: Sequence[Tensor],
    held_out: Sequence[Tensor],
    out: Path,
    init: Checkpoint | None = None,
    data: str = "",
) -> VideoVAE:
    """Train (or continue) a VAE on clips (3, F, H, W) in [-1, 1]; returns it with averaged weights and statistics.

    The result is written to out/vae.safetensors at each save. A run folder with a checkpoint is continued; with other
    `data` (any text that stands for the clips) it is refused. StoppedError when the process was asked to end.
    """
    torch.manual_seed(settings.seed)
    run = Run(out, asdict(settings) | {"frames": list(settings.frames)} | ({"data": data} if data else {}))
    vae = VideoVAE(init.vae_config if init and init.vae_config else PRESETS[settings.preset])
    if init:
        vae.load_state_dict(init.vae_state)
    else:
        start_at_principal_components(vae, clips, seed=settings.seed)
    vae.encoder.requires_grad_(not settings.freeze_encoder)
    for linear in (vae.encoder.linear, vae.decoder.linear):
        linear.requires_grad_(False)
    vae.to(getattr(torch, settings.dtype))
    optimiser = Optimiser(vae, learning_rate=settings.learning_rate)
    average = EMA(optimiser.masters)
    first = run.resume(optimiser, average)
    if first == 0:
        run.record(step=0, **evaluate(vae, held_out))
    elif saves_after(first, settings) and not sample_file(run, first).exists():
        report(run, vae, average, clips, held_out, settings, first)  # a kill came between checkpoint and report
    for step in range(first, settings.steps):
        rng = generator(settings.seed, step)
        frames = settings.frames[int(torch.randint(len(settings.frames), (1,), generator=rng))]
        loss, error = training_loss(vae, crops(clips, settings, rng, frames), settings, rng)
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss became {loss.item()} at step {step}: lower --learning-rate; the last checkpoint is kept"
            )
        loss.backward()
        norm = optimiser.step(learning_rate_scale(step, settings.steps, warmup=20, decay=settings.decay))
        average.update(optimiser.masters, step + 1)
        if step % 20 == 0:
            psnr = round(-10 * float(np.log10(error.item() / 4 + 1e-12)), 2)
            run.record(step=step, loss=round(loss.item(), 5), batch_psnr=psnr, gradient=round(norm, 3))
        stop = asked_to_stop()
        if stop or saves_after(step + 1, settings):
            run.save(step + 1, optimiser, average)
        if saves_after(step + 1, settings):
            report(run, vae, average, clips, held_out, settings, step + 1)
        if stop and step + 1 < settings.steps:
            raise StoppedError(f"stopped after step {step + 1}; the same command continues there")
    return finish(vae, average, clips, settings)


def saves_after(step: int, settings: VAETraining) -> bool:
    """Whether a checkpoint is written after `step` steps."""
    return step > 0 and (step % settings.save_every == 0 or step == settings.steps)


def sample_file(run: Run, step: int) -> Path:
    """The strip of reconstructions after `step` steps, the last file that a report writes."""
    return run.folder / "samples" / f"{step:06d}.png"


def report(
    run: Run, vae: VideoVAE, average: EMA, clips: Sequence[Tensor], held_out: Sequence[Tensor],
    settings: VAETraining, step: int,
) -> None:  # fmt: skip
    """Scores of the averaged weights on held-out clips, the VAE for use, and a strip of clips and reconstructions."""
    finished = finish(vae, average, clips, settings)
    picture = sample_file(run, step)
    scores = evaluate(finished, held_out, picture.with_suffix(".part"))
    run.record(step=step, **scores)
    meta = {"steps": step, **scores}
    save_checkpoint(
        run.folder / "vae.safetensors",
        Checkpoint(vae_config=vae.config, vae_state=finished.state_dict(), meta=meta),
    )
    picture.with_suffix(".part").replace(picture)


def finish(vae: VideoVAE, average: EMA, clips: Sequence[Tensor], settings: VAETraining) -> VideoVAE:
    """A copy in fp32 with the averaged weights, and statistics measured unless the encoder is frozen."""
    copy = VideoVAE(vae.config)
    copy.load_state_dict({name: t.float() for name, t in vae.state_dict().items()} | dict(average.items()))
    if not settings.freeze_encoder:
        measure_statistics(copy, clips[:64])
    return copy.eval()
