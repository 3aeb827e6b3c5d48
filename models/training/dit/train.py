"""Train the DiT on cached latents by flow matching: from scratch, or continued from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoints import Checkpoint
from ...clips.cache import LatentCache
from ...flow import PathPoint
from ...lora import pairs_of
from ...patches import Patch
from ...transfer import sent
from ...transformer.attention import matmul_attention, sdpa
from ...transformer.compiled import compile_blocks
from ...transformer.dit import DiT
from ...transformer.routing import Route, blocks_past
from ...vae.autoencoder import VideoVAE
from ..optim.layout import Layout
from ..optim.optimiser import EMA, Optimiser
from ..run.ahead import AHEAD, ahead
from ..run.devices import taking_turns
from ..run.folder import Run, generator, saves_after
from ..run.pace import Pace
from ..run.stopping import StoppedError, asked_to_stop
from .alignment import add_aligner, alignment_loss, block_of
from .batches import Batch, draw_batch
from .initial import build
from .kept import averaged, described, keep, result, save_dit
from .lora import save_lora
from .losses import flow_loss, steadiness_loss
from .profiles import Profiles
from .recipe import PLAIN, Recipe
from .samples import save_samples
from .settings import ASSUMED, DiTTraining, Drawing
from .workers import Workers, join


def batch_loss(model: DiT, batch: Batch, *, steadiness: float = 0.0, alignment: float = 0.0) -> Tensor:
    """The flow-matching loss of one batch, averaged over its clips.

    steadiness, alignment: weights of `steadiness_loss` and `alignment_loss`.
    """
    weight = next(model.parameters())
    device, dtype = weight.device, weight.dtype
    clean, noise, sigma = (sent(t, device) for t in (batch.clean, batch.noise, batch.sigma))
    per_token = sigma.repeat_interleave(clean.shape[1] // sigma.shape[1], dim=1)
    point = PathPoint.between(clean, noise, per_token, model.config.prediction)
    mask = None if batch.mask is None else sent(batch.mask, device)
    prepared = model.prepare(
        batch.grids,
        sent(batch.context, device).to(dtype),
        mask,
        context_lengths=batch.text_lengths,
        cyclic=batch.cyclic,
        device=device,
    )
    kernel = matmul_attention if device.type == "cpu" else sdpa
    taps = {block_of(model): point.x} if alignment else None
    route = None if batch.kept is None else Route.of(model.routed, batch.kept, batch.lengths, device)
    # on a GPU always a level per patch: a compiled graph for each kind of level costs more than that
    levels = sigma if device.type == "cpu" else per_token
    prediction = model.forward_tokens(
        point.x.to(dtype), levels, prepared, labels=batch.label_rows(device), attention=kernel, taps=taps, route=route
    )
    loss = flow_loss(prediction, point, batch.lengths)
    if taps and batch.known is not None:
        known, lengths = sent(batch.known, device), batch.lengths
        if route is not None and block_of(model) in route.blocks:
            known, lengths = route.select(known), list(route.lengths)
        loss = loss + alignment * alignment_loss(model, taps[block_of(model)], known, lengths)
    if not steadiness:
        return loss
    return loss + steadiness * steadiness_loss(prediction, point, batch.grids, cyclic=batch.cyclic)


def backward(model: DiT, batch: Batch, workers: Workers, *, settings: DiTTraining, stop: bool) -> tuple[Tensor, bool]:
    """Gradients and value of the loss over the whole batch, and whether any worker was asked to stop."""
    pieces = workers.pieces(batch, settings.accumulate)
    loss = accumulated(model, pieces, steadiness=settings.steadiness, alignment=settings.alignment)
    if workers.count == 1:
        return loss, stop
    total, stopping = workers.sum_gradients(model, [loss, torch.tensor(float(stop))])
    return total, bool(stopping)


def accumulated(
    model: DiT, pieces: Sequence[tuple[Batch, float]], *, steadiness: float = 0.0, alignment: float = 0.0
) -> Tensor:
    """Gradients of the mean loss of clips in pieces, each with its share of them all; returns their part of that loss.

    Several pieces are summed in fp32 and rounded once, so that a bf16 model's gradients do not depend on their number.
    """
    total = torch.zeros((), device=next(model.parameters()).device)
    sums: dict[nn.Parameter, Tensor] = {}
    for piece, share in pieces:
        loss = batch_loss(model, piece, steadiness=steadiness, alignment=alignment) * share
        loss.backward()
        total = total + loss.detach()
        if len(pieces) == 1:
            break
        for parameter in model.parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.float()
                sums[parameter] = sums[parameter].add_(gradient) if parameter in sums else gradient.clone()
                parameter.grad = None
    for parameter, gradient in sums.items():
        parameter.grad = gradient.to(parameter.dtype)
    return total


@torch.no_grad()
def validation_loss(model: DiT, batches: Sequence[Batch]) -> float:
    """Mean loss over fixed held-out batches at fixed noise levels."""
    return sum(float(batch_loss(model, batch)) for batch in batches) / len(batches)


def train(
    settings: DiTTraining,
    cache: LatentCache,
    held_out: LatentCache,
    empty: Tensor,
    vae: VideoVAE,
    out: Path,
    init: Checkpoint | None = None,
    device: str = "cpu",
    *,
    shard: bool = False,
    log: str = "",
    recipe: Recipe = PLAIN,
) -> DiT:
    """Train a DiT; returns it with averaged weights. A run folder with a checkpoint is continued.

    empty: features (L, E) of the empty prompt. recipe: what is learned from a batch, and how the model is to be run.
    Each save leaves out/dit.safetensors (averaged weights, ready to use), out/checkpoint.safetensors (to resume) and
    out/samples/*.png; there are out/averages/ and out/early.safetensors too. log: further logs, "tensorboard,wandb".
    Under torchrun the work is shared; with `shard` so is the model, and the checkpoint is a folder of parts.
    StoppedError when the process was asked to end: the checkpoint is that of the last step.
    """
    workers, device = join(device, shard=shard)
    torch.manual_seed(settings.seed)
    run = opened(out, settings, cache, held_out, vae, init, recipe, writes=workers.first)
    model = to_train(settings, cache, init)
    layout = laid_out(model, settings, workers, device)
    optimiser, average = kept_beside(settings, model, layout, workers)
    first = workers.resume(run, optimiser, average)
    run.log_to(log, first)
    fixed = [recipe.lesson(batch) for batch in judged_batches(settings, held_out, empty, model.config.patch)]

    def tell(step: int) -> None:
        weights = result(model, average, keep=workers.first)
        if weights:
            report(run, model, weights, vae, held_out, empty, fixed, step, split=layout.split, recipe=recipe)

    if workers.agree(saves_after(first, settings.steps, settings.save_every) and run.unreported(first)):
        tell(first)  # a kill came between checkpoint and report
    pace = Pace(settings.steps, settings.minutes)
    batches = drawn_ahead(cache, empty, settings, model.config.patch, torch.device(device), first)
    for step, batch in zip(pace(first), batches, strict=False):
        loss, stop = backward(model, recipe.lesson(batch), workers, settings=settings, stop=asked_to_stop())
        optimiser.step(pace.scale(step, warmup=settings.warmup, decay=settings.decay), loss)
        average.update(optimiser.masters, step + 1)
        keep(run, model, average, settings, step + 1, check=optimiser.check)
        if step % 20 == 0:
            norm, value = optimiser.check()
            run.record(step=step, loss=round(value, 4), gradient=round(norm, 3))
        due = pace.ends(step + 1) or saves_after(step + 1, settings.steps, settings.save_every)
        if stop or due:
            optimiser.check()  # by all workers, also those that save nothing
            run.save(step + 1, optimiser, average)
        if due:
            tell(step + 1)
        if stop and not pace.over:
            run.close()
            raise StoppedError.after(step + 1)
    run.close()
    return averaged(model, result(model, average))


def opened(
    out: Path,
    settings: DiTTraining,
    cache: LatentCache,
    held_out: LatentCache,
    vae: VideoVAE,
    init: Checkpoint | None,
    recipe: Recipe,
    *,
    writes: bool,
) -> Run:
    """The folder of the run, begun or to be continued."""
    made_from = cache.made_from(vae, held_out, init)
    run = Run(out, config_of(settings, cache) | made_from, writes=writes, assumed=ASSUMED | made_from)
    run.meta = described(settings, cache, init) | {"latents_of": made_from["vae"]} | recipe.meta
    return run


def to_train(settings: DiTTraining, cache: LatentCache, init: Checkpoint | None) -> DiT:
    """The model as it goes into a run, with what it learns from beside the clips."""
    model = build(settings, init)
    if settings.balance:
        cache.check_balance()
    if settings.alignment:
        add_aligner(model, cache.known_channels)
    if settings.route:
        model.routed = blocks_past(len(model.blocks), settings.route_start, settings.route_end)
    model.checkpointing = settings.checkpointing
    return model


def laid_out(model: DiT, settings: DiTTraining, workers: Workers, device: str) -> Layout:
    """The model in its numbers on its device, or shared among workers, and compiled where that was asked for."""
    layout = workers.layout(model.to(getattr(torch, settings.dtype)), device)
    if settings.compile:
        compile_blocks(model.blocks)
    return layout


def judged_batches(settings: Drawing, held_out: LatentCache, empty: Tensor, patch: Patch) -> list[Batch]:
    """The same few held-out batches in every run, which validation loss is measured on."""
    judged = replace(settings, mix=(), alignment=0.0, balance=0.0, route=0.0)
    return [draw_batch(held_out, empty, judged, generator(1, i), patch=patch) for i in range(6)]


def drawn_ahead(
    cache: LatentCache, empty: Tensor, settings: DiTTraining, patch: Patch, device: torch.device, first: int
) -> Iterator[Batch]:
    """The batches of all steps from `first` on; to a GPU they come while it computes the step before."""

    def drawn(step: int) -> Batch:
        return draw_batch(cache, empty, settings, generator(settings.seed, step), patch=patch, device=device)

    return ahead(drawn, count(first), threads=AHEAD[device.type])


def kept_beside(settings: DiTTraining, model: DiT, layout: Layout, workers: Workers) -> tuple[Optimiser, EMA]:
    """What a run keeps beside the model: its optimiser, and the average of its weights."""
    optimiser = Optimiser(
        model,
        learning_rate=settings.learning_rate,
        muon=settings.muon and not settings.lora,
        clip_deviations=settings.clip_deviations,
        layout=layout,
    )
    average = (Profiles if settings.snapshots else EMA)(optimiser.masters, layout=layout)
    workers.say_what_it_holds(optimiser)
    return optimiser, average


def config_of(settings: DiTTraining, cache: LatentCache) -> dict[str, Any]:
    """Settings and the names of the shards as a config.json has them."""
    lists = {"mix": [list(row) for row in settings.mix], "classes": list(settings.classes)}
    return asdict(settings) | lists | {"shards": cache.names}


@torch.no_grad()
def report(
    run: Run,
    model: DiT,
    weights: dict[str, Tensor],
    vae: VideoVAE,
    held_out: LatentCache,
    empty: Tensor,
    fixed: Sequence[Batch],
    step: int,
    *,
    split: bool = False,
    recipe: Recipe = PLAIN,
) -> None:
    """Validation loss of the averaged weights, a strip of samples on held-out captions, and the checkpoint for use.

    split: the model's parameters are shared among workers, and stay where they are.
    """
    like = next(model.parameters())
    best = averaged(model, weights)
    save_dit(run, "dit.safetensors", best, step)
    if pairs_of(weights):
        save_lora(run.file("lora.safetensors"), weights, {"steps": step} | recipe.meta)
    best.to(like.dtype)
    with taking_turns(None if split else model, best, vae, device=like.device):
        run.record(step=step, validation_loss=round(validation_loss(best, fixed), 4))
        save_samples(run, best, vae, held_out, empty, step, recipe.shown)
    run.show(step, run.sample_file(step))
