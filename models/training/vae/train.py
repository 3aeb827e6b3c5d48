"""Train the video VAE on random crops of clips and images, of several lengths. The losses are in `vae_objective`.

The linear halves are the principal components of the blocks in the data and stay so: training begins at a usable codec
and the residual networks learn what a linear map cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...checkpoints import Checkpoint, save_checkpoint
from ...files import replacing
from ...geometry import OURS
from ...metrics.reference import ssim
from ...pixels import as_pixels, to_uint8
from ...transfer import sent
from ...vae.autoencoder import BLOCK, PRESETS, TIME, VideoVAE, weights_mark
from ...vae.layers import space_to_depth
from ..optim.optimiser import EMA, Optimiser
from ..run.ahead import AHEAD, ahead
from ..run.folder import Run, generator, saves_after, strip
from ..run.pace import Pace
from ..run.stopping import StoppedError, asked_to_stop
from .objective import Objective, VAETraining

__all__ = ["VAETraining", "train"]
CPU = torch.device("cpu")
LEAST_DEVIATION = 1e-4  # of a channel's pixels, below which it holds nothing
Clips = Sequence[Tensor]  # (3, F, H, W), uint8 or floats in [-1, 1]: bytes take a quarter of the memory


@torch.no_grad()
def start_at_principal_components(vae: VideoVAE, clips: Clips, *, blocks: int = 40_000, seed: int = 0) -> None:
    """Set the linear halves to the PCA of the clips' blocks of 4 x 8 x 8 pixels; latents get unit variance.

    ValueError when the blocks do not differ in as many ways as there are latent channels.
    """
    picked, rng = [], np.random.default_rng(seed)
    for clip in clips:
        still = clip[:, :1].expand(-1, TIME, -1, -1)
        moving = clip[:, 1 : OURS.fitting(clip.shape[1])]
        cells = space_to_depth(torch.cat([still, moving], dim=1).permute(1, 2, 3, 0)[None], BLOCK).flatten(0, 3)
        picked.append(as_pixels(cells[torch.from_numpy(rng.permutation(len(cells))[: blocks // len(clips) + 1])]))
    data = torch.cat(picked).double()
    mean = data.mean(dim=0)
    _, scales, axes = torch.linalg.svd(data - mean, full_matrices=False)
    count = vae.config.latent_channels
    deviation = scales[:count] / max(len(data) - 1, 1) ** 0.5
    ways = int((deviation > LEAST_DEVIATION).sum())
    if ways < count:
        raise ValueError(
            f"the clips differ in {ways} ways only, and the VAE has {count} channels to fill: add clips that differ "
            "more, or take a larger size"
        )
    encode, decode = axes[:count] / deviation[:, None], (axes[:count] * deviation[:, None]).T
    vae.encoder.linear.weight.copy_(encode)
    vae.encoder.linear.bias.copy_(-encode @ mean)
    vae.decoder.linear.weight.copy_(decode)
    vae.decoder.linear.bias.copy_(mean)


def crops(clips: Clips, settings: VAETraining, rng: torch.Generator, device: torch.device = CPU) -> Tensor:
    """A batch of random crops (B, 3, F, crop, crop) in [-1, 1], half of them mirrored; shorter where all clips are.

    A share of the batches are images, drawn from all clips; the others are of one of the settings' lengths.
    """

    def draw(high: int) -> int:
        return int(torch.randint(max(high, 1), (1,), generator=rng))

    still = float(torch.rand((), generator=rng)) < settings.images
    frames = 1 if still else settings.frames[draw(len(settings.frames))]
    longest = max(clip.shape[1] for clip in clips)
    frames = min(frames, OURS.fitting(longest))  # a loop has 4k frames
    clips = [clip for clip in clips if clip.shape[1] >= frames]
    crop = min(settings.crop, *(side for clip in clips for side in clip.shape[2:]))
    batch = []
    images = max(1, 4 // frames)  # single frames are cheap: take more of them
    for _ in range(settings.batch * images):
        clip = clips[draw(len(clips))]
        t, y, x = (draw(clip.shape[i] - n + 1) for i, n in ((1, frames), (2, crop), (3, crop)))
        piece = clip[:, t : t + frames, y : y + crop, x : x + crop]
        batch.append(piece.flip(-1) if draw(2) else piece)
    return as_pixels(sent(torch.stack(batch), device))


def encoded(vae: VideoVAE, clip: Tensor) -> Tensor:
    """Latents (1, C, T, h, w) of a clip (3, F, H, W); one of 4k frames is a loop."""
    weight = vae.encoder.linear.weight
    return vae.encode(as_pixels(clip)[None].to(weight.device, weight.dtype), cyclic=is_loop(clip))


def is_loop(clip: Tensor) -> bool:
    """Whether a clip (3, F, H, W) has the frames of a loop."""
    return OURS.fits(clip.shape[1], cyclic=True)


@torch.no_grad()
def measure_statistics(vae: VideoVAE, clips: Clips) -> None:
    """Store the mean and deviation per channel of the clips' latents in the VAE."""
    vae.latent_mean.zero_()
    vae.latent_std.fill_(1)
    latents = torch.cat([encoded(vae, clip).float().flatten(2)[0] for clip in clips], dim=1)
    vae.latent_mean.copy_(latents.mean(dim=1))
    vae.latent_std.copy_(latents.std(dim=1))


@torch.no_grad()
def evaluate(vae: VideoVAE, clips: Clips, path: Path | None = None) -> dict[str, float]:
    """Scores over held-out clips: PSNR in dB over all pixels and over saturated ones (coloured objects), and SSIM.

    path: where to save pairs of rows, a clip and below it what the VAE makes of it (clips of the first one's size).
    """
    errors, coloured, likeness, rows = [], [], [], []
    for held in clips:
        clip = as_pixels(held)
        output = vae.decode(encoded(vae, clip), cyclic=is_loop(clip))[0].float().clamp(-1, 1).cpu()
        error = ((output - clip) / 2).square().mean(dim=0)
        saturation = (clip.amax(dim=0) - clip.amin(dim=0)) / 2
        errors.append(error.mean())
        coloured.append(error[saturation > 0.4])
        likeness.append(ssim(*((video.permute(1, 2, 3, 0) + 1) / 2 for video in (output, clip))).mean())
        rows += [to_uint8(clip), to_uint8(output)]
    if path is not None:
        strip([row for row in rows if row.shape == rows[0].shape][:16], path)
    objects = torch.cat(coloured)
    return {
        "psnr": round(float(-10 * torch.stack(errors).mean().log10()), 2),
        "ssim": round(float(torch.stack(likeness).mean()), 4),
        "object_psnr": round(float(-10 * objects.mean().log10()), 2) if len(objects) else float("nan"),
    }


def train(
    settings: VAETraining,
    clips: Clips,
    held_out: Clips,
    out: Path,
    init: Checkpoint | None = None,
    data: str = "",
    device: str = "cpu",
) -> VideoVAE:
    """Train (or continue) a VAE on clips; returns it with averaged weights and statistics.

    The result is written to out/vae.safetensors at each save. A run folder with a checkpoint is continued; with other
    `data` (any text that stands for the clips) it is refused. StoppedError when the process was asked to end.
    """
    torch.manual_seed(settings.seed)
    made_from = ({"data": data} if data else {}) | {"init": weights_mark(init.vae_state) if init else ""}
    config = asdict(settings) | {"frames": list(settings.frames)} | made_from
    run = Run(out, config, assumed={"steadiness": 0.0, "clip_deviations": 0.0, "minutes": 0.0} | made_from)
    vae = begin(settings, clips, init).to(device, getattr(torch, settings.dtype))
    optimiser = Optimiser(vae, learning_rate=settings.learning_rate, clip_deviations=settings.clip_deviations)
    average = EMA(optimiser.masters)
    objective = Objective(settings, optimiser, torch.device(device))
    first = run.resume(objective, average)
    if first == 0:
        run.record(step=0, **evaluate(vae, held_out))
    elif saves_after(first, settings.steps, settings.save_every) and run.unreported(first):
        report(run, vae, average, clips, held_out, settings, first)  # a kill came between checkpoint and report
    place, pace = torch.device(device), Pace(settings.steps, settings.minutes)

    def drawn(step: int) -> tuple[Tensor, torch.Generator]:
        rng = generator(settings.seed, step)
        return crops(clips, settings, rng, place), rng

    steps = pace(first)
    for step, (video, rng) in zip(steps, ahead(drawn, count(first), threads=AHEAD[place.type]), strict=False):
        judged = objective.judge(vae, video, rng, step)
        judged.loss.backward()
        scale = pace.scale(step, warmup=20, decay=settings.decay)
        optimiser.step(scale, judged.loss)
        average.update(optimiser.masters, step + 1)
        said = objective.learn(judged, step, scale)
        if step % 20 == 0:
            psnr = round(-10 * float(np.log10(judged.error.item() / 4 + 1e-12)), 2)
            parts = {name: round(float(value), 5) for name, value in said.items()}
            norm, value = optimiser.check()
            run.record(step=step, loss=round(value, 5), batch_psnr=psnr, gradient=round(norm, 3), **parts)
        stop = asked_to_stop()
        due = pace.ends(step + 1) or saves_after(step + 1, settings.steps, settings.save_every)
        if stop or due:
            run.save(step + 1, objective, average)
        if due:
            report(run, vae, average, clips, held_out, settings, step + 1)
        if stop and not pace.over:
            raise StoppedError.after(step + 1)
    return finish(vae, average, clips, settings)


def begin(settings: VAETraining, clips: Clips, init: Checkpoint | None) -> VideoVAE:
    """The VAE to train: the checkpoint's, or a new one at the principal components of the clips."""
    vae = VideoVAE(init.vae_config if init and init.vae_config else PRESETS[settings.preset])
    if init:
        vae.load_state_dict(init.vae_state)
    else:
        start_at_principal_components(vae, clips, seed=settings.seed)
    vae.encoder.requires_grad_(not settings.freeze_encoder)
    for linear in (vae.encoder.linear, vae.decoder.linear):
        linear.requires_grad_(requires_grad=False)
    return vae


def report(
    run: Run, vae: VideoVAE, average: EMA, clips: Clips, held_out: Clips, settings: VAETraining, step: int
) -> None:
    """Scores of the averaged weights on held-out clips, the VAE for use, and a strip of clips and reconstructions."""
    finished = finish(vae, average, clips, settings)
    picture = run.sample_file(step)
    with replacing(picture) as partial:
        scores = evaluate(finished, held_out, partial)
        run.record(step=step, **scores)
        meta = {"steps": step, **scores}
        save_checkpoint(
            run.file("vae.safetensors"),
            Checkpoint(vae_config=vae.config, vae_state=finished.state_dict(), meta=meta),
        )


def finish(vae: VideoVAE, average: EMA, clips: Clips, settings: VAETraining) -> VideoVAE:
    """A copy in fp32 with the averaged weights, and statistics measured unless the encoder is frozen."""
    copy = VideoVAE(vae.config).to(vae.latent_mean.device)
    copy.load_state_dict({name: t.float() for name, t in vae.state_dict().items()} | dict(average.items()))
    if not settings.freeze_encoder:
        measure_statistics(copy, clips[:64])
    return copy.eval()
