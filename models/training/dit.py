"""Train the DiT on cached latents by flow matching: from scratch, or continued from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import Checkpoint, save_checkpoint
from ..patches import Grid, from_patches, to_patches
from ..pixels import to_uint8
from ..transformer.attention import matmul_attention, sdpa
from ..transformer.dit import PRESETS, DiT
from ..vae.autoencoder import VideoVAE
from .data import Example, LatentCache, stack_text
from .losses import flow_loss, sample_levels, sample_region
from .optim import EMA, Optimiser, learning_rate_scale
from .parallel import Workers, join
from .runs import Run, generator, strip
from .stopping import StoppedError, asked_to_stop


@dataclass(frozen=True, kw_only=True)
class DiTTraining:
    """Settings of a run; all of them are written to its config.json."""

    preset: str = "toy"
    steps: int = 4000
    tokens: int = 5184  # patches per step: the batch size follows from the clip size
    mix: tuple[tuple[str, float], ...] = ()  # (clip size, share of the steps); () = all buckets alike
    images: float = 0.1  # share of steps on single frames
    learning_rate: float = 1e-3
    dropout: float = 0.1  # share of clips without text
    region: float = 0.1  # share of steps with known regions in space
    seed: int = 0
    warmup: int = 100
    decay: float = 0.3
    save_every: int = 250
    dtype: str = "bfloat16"
    compile: bool = False


@dataclass(frozen=True)
class Batch:
    """Everything random of one step, drawn from the step's own generator."""

    clean: Tensor  # (B, N, P)
    noise: Tensor  # (B, N, P)
    sigma: Tensor  # (B, frames) or (B, N)
    context: Tensor  # (B, L, E)
    mask: Tensor  # (B, L)
    grid: Grid
    cyclic: bool


def make_batch(
    examples: Sequence[Example], empty: Tensor, settings: DiTTraining, rng: torch.Generator, *, cyclic: bool
) -> Batch:
    """Noise, levels and texts for a batch of clips of one size; a tenth of the texts become the empty prompt's."""
    latents = torch.stack([example.latents for example in examples]).float()
    grid = Grid.of(latents, PRESETS[settings.preset].patch)
    clean = to_patches(latents, PRESETS[settings.preset].patch)
    sigma = sample_levels(len(examples), grid, rng)
    if cyclic:  # a loop has no first frame
        offset = int(torch.randint(grid.frames, (1,), generator=rng))
        sigma = sigma.roll(offset, dims=1)
    if not cyclic and float(torch.rand(1, generator=rng)) < settings.region:
        per_frame = sigma.repeat_interleave(grid.height * grid.width, dim=1)
        sigma = per_frame.amax(dim=1, keepdim=True) * torch.stack([sample_region(grid, rng) for _ in examples])
    dropped = (torch.rand(len(examples), generator=rng) < settings.dropout).tolist()
    context, mask = stack_text([empty if drop else e.text for e, drop in zip(examples, dropped, strict=True)])
    return Batch(clean, torch.randn(clean.shape, generator=rng), sigma, context, mask, grid, cyclic)


def batch_loss(model: DiT, batch: Batch) -> Tensor:
    """The flow-matching loss of one batch."""
    weight = next(model.parameters())
    device, dtype = weight.device, weight.dtype
    clean, noise, sigma = (t.to(device) for t in (batch.clean, batch.noise, batch.sigma))
    repeats = batch.grid.num_tokens // sigma.shape[1]
    per_token = sigma.repeat_interleave(repeats, dim=1)
    noisy = torch.lerp(clean, noise, per_token[..., None])
    prepared = model.prepare(
        [batch.grid], batch.context.to(device, dtype), batch.mask.to(device), cyclic=batch.cyclic, device=device
    )
    kernel = matmul_attention if device.type == "cpu" else sdpa
    prediction = model.forward_tokens(
        noisy.to(dtype), [batch.grid], sigma, prepared, cyclic=batch.cyclic, attention=kernel
    )
    return flow_loss(prediction, clean, noise, per_token)


def backward(model: DiT, batch: Batch, workers: Workers, *, stop: bool) -> tuple[Tensor, bool]:
    """Gradients and value of the loss over the whole batch, and whether any worker was asked to stop."""
    if workers.count == 1:
        loss = batch_loss(model, batch)
        loss.backward()
        return loss.detach(), stop
    rows = workers.rows(len(batch.clean))
    share = (rows.stop - rows.start) / len(batch.clean)
    loss = torch.zeros(())
    if share:
        fields = {name: getattr(batch, name)[rows] for name in ("clean", "noise", "sigma", "context", "mask")}
        loss = batch_loss(model, replace(batch, **fields)) * share
        loss.backward()
    total, stopping = workers.sum_gradients(model, [loss, torch.tensor(float(stop))])
    return total, bool(stopping)


def draw_batch(cache: LatentCache, empty: Tensor, settings: DiTTraining, rng: torch.Generator) -> Batch:
    """The batch of one step: a bucket by its share, then as many clips as `tokens` allows."""
    mix = settings.mix or tuple((size, 1.0) for size in cache.buckets)
    weights = torch.tensor([share for _, share in mix])
    size = mix[int(torch.multinomial(weights, 1, generator=rng))][0]
    if size not in cache.buckets:
        raise ValueError(f"the cache holds no clips of {size}, only {', '.join(cache.buckets)}")
    cyclic = size.endswith("c")
    image = not cyclic and float(torch.rand(1, generator=rng)) < settings.images
    shape = cache.buckets[size][0][0].shape
    per_clip = (1 if image else shape[1]) * (shape[2] // 2) * (shape[3] // 2)
    examples = cache.draw(size, max(1, settings.tokens // per_clip), rng)
    if image:
        examples = [Example(e.latents[:, :1], e.text) for e in examples]
    return make_batch(examples, empty, settings, rng, cyclic=cyclic)


@torch.no_grad()
def validation_loss(model: DiT, batches: Sequence[Batch]) -> float:
    """Mean loss over fixed held-out batches at fixed noise levels."""
    return sum(float(batch_loss(model, batch)) for batch in batches) / len(batches)


@torch.no_grad()
def sample(
    model: DiT, texts: Sequence[Tensor], empty: Tensor, shape: tuple[int, int, int, int], *,
    steps: int = 24, cfg: float = 2.0, shift: float = 2.0, seed: int = 0, cyclic: bool = False,
) -> Tensor:  # fmt: skip
    """Latents (B, C, T, H, W) for texts (L_i, E): plain Euler with guidance, enough to see how a run is doing."""
    weight = next(model.parameters())
    context, mask = stack_text([*texts, *[empty] * len(texts)])
    x = torch.randn(len(texts), *shape, generator=generator(seed, 0)).to(weight.device)
    grid = Grid.of(x, model.config.patch)
    prepared = model.prepare([grid], context.to(weight), mask.to(weight.device), cyclic=cyclic, device=weight.device)
    times = torch.linspace(1, 0, steps + 1)
    sigmas = (shift * times / (1 + (shift - 1) * times)).tolist()
    x = to_patches(x, model.config.patch)
    for sigma, following in pairwise(sigmas):
        level = torch.full((2 * len(texts),), sigma, device=weight.device)
        both = model.forward_tokens(torch.cat([x, x]).to(weight.dtype), [grid], level, prepared, cyclic=cyclic).float()
        conditional, unconditional = both.chunk(2)
        x = x + (following - sigma) * (unconditional + cfg * (conditional - unconditional))
    return from_patches(x, grid, model.config.patch)


def train(
    settings: DiTTraining, cache: LatentCache, held_out: LatentCache, empty: Tensor, vae: VideoVAE, out: Path,
    init: Checkpoint | None = None, device: str = "cpu",
) -> DiT:  # fmt: skip
    """Train a DiT; returns it with averaged weights. A run folder with a checkpoint is continued.

    empty: features (L, E) of the empty prompt. Written at each save: out/dit.safetensors (averaged weights, ready to
    use), out/checkpoint.safetensors (to resume) and out/samples/*.png. Under torchrun the work is shared.
    StoppedError when the process was asked to end: the checkpoint is that of the last step.
    """
    workers, device = join(device)
    torch.manual_seed(settings.seed)
    config = asdict(settings) | {"mix": [list(row) for row in settings.mix], "shards": cache.names}
    run = Run(out, config, writes=workers.first)
    model = DiT(init.dit_config if init and init.dit_config else PRESETS[settings.preset]).initialise()
    if init:
        model.load_state_dict(init.dit_state)
    model.to(device, getattr(torch, settings.dtype))
    if settings.compile:
        torch._dynamo.config.cache_size_limit = 64  # one graph per clip size, caption length and kind of noise level
        for block in model.blocks:
            block.compile(dynamic=False)
    optimiser = Optimiser(model, learning_rate=settings.learning_rate)
    average = EMA(optimiser.masters)
    first = workers.spread(optimiser, average, run.resume(optimiser, average))
    fixed = [draw_batch(held_out, empty, replace(settings, mix=()), generator(1, i)) for i in range(6)]
    if workers.first and saves_after(first, settings) and not sample_file(run, first).exists():
        report(run, model, average, vae, held_out, empty, fixed, first)  # a kill came between checkpoint and report
    for step in range(first, settings.steps):
        batch = draw_batch(cache, empty, settings, generator(settings.seed, step))
        loss, stop = backward(model, batch, workers, stop=asked_to_stop())
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss became {loss.item()} at step {step}: lower --learning-rate; the last checkpoint is kept"
            )
        norm = optimiser.step(learning_rate_scale(step, settings.steps, warmup=settings.warmup, decay=settings.decay))
        average.update(optimiser.masters, step + 1)
        if step % 20 == 0:
            run.record(step=step, loss=round(loss.item(), 4), gradient=round(norm, 3))
        if stop or saves_after(step + 1, settings):
            run.save(step + 1, optimiser, average)
        if workers.first and saves_after(step + 1, settings):
            report(run, model, average, vae, held_out, empty, fixed, step + 1)
        if stop and step + 1 < settings.steps:
            raise StoppedError(f"stopped after step {step + 1}; the same command continues there")
    return averaged(model, average)


def saves_after(step: int, settings: DiTTraining) -> bool:
    """Whether a checkpoint is written after `step` steps."""
    return step > 0 and (step % settings.save_every == 0 or step == settings.steps)


def sample_file(run: Run, step: int) -> Path:
    """The strip of samples after `step` steps, the last file that a report writes."""
    return run.folder / "samples" / f"{step:06d}.png"


def averaged(model: DiT, average: EMA) -> DiT:
    """A copy of the model, fp32, with the averaged weights."""
    copy = DiT(model.config)
    copy.load_state_dict({name: weight.cpu() for name, weight in average.items()})
    return copy.eval()


@torch.no_grad()
def report(
    run: Run,
    model: DiT,
    average: EMA,
    vae: VideoVAE,
    held_out: LatentCache,
    empty: Tensor,
    fixed: Sequence[Batch],
    step: int,
) -> None:
    """Validation loss of the averaged weights, a strip of samples on held-out captions, and the checkpoint for use."""
    weight = next(model.parameters())
    best = averaged(model, average)
    save_checkpoint(
        run.folder / "dit.safetensors",
        Checkpoint(dit_config=model.config, dit_state=best.state_dict(), meta={"steps": step}),
    )
    best.to(weight.device, weight.dtype)
    run.record(step=step, validation_loss=round(validation_loss(best, fixed), 4))
    size = next(iter(held_out.buckets))
    rows = held_out.buckets[size][:10]
    latents = sample(best, [texts[0] for _, texts in rows], empty, tuple(rows[0][0].shape), cyclic=size.endswith("c"))  # type: ignore[arg-type]
    dtype = vae.decoder.linear.weight.dtype
    videos = [vae.decode(clip[None].cpu().to(dtype), cyclic=size.endswith("c"))[0] for clip in latents]
    strip([to_uint8(video) for video in videos], sample_file(run, step))
