"""Does a DiT learn more from detailed captions than from short ones? Equal start, clips, noise and steps.

Per seed two small DiTs are trained from the same weights on the same clips with the same noise; only the captions
differ. Both are then given held-out clips with short and with detailed prompts. `loss` is the flow-matching loss there
(lower is better), `gain` how much of the loss without a prompt the prompt takes away. A row of "detailed - short" has
the difference of the means; it says something where it is larger than the spreads.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.checkpoints import load_checkpoint
from ...models.clips.cache import LatentCache
from ...models.clips.clips import HELD_OUT
from ...models.clips.toy import cache_toy_world
from ...models.embedded import EMBEDDED
from ...models.geometry import ClipSize
from ...models.text.encoder import load_text_encoder
from ...models.training.dit.batches import Batch, draw_batch
from ...models.training.dit.kept import averaged
from ...models.training.dit.settings import DiTTraining
from ...models.training.dit.train import batch_loss
from ...models.training.optim.optimiser import EMA, Optimiser, learning_rate_scale
from ...models.training.run.folder import generator
from ...models.transformer.config import PRESETS
from ...models.transformer.dit import DiT

KINDS = ("short", "detailed")
JUDGED = 8  # held-out batches


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1536, help="patches per step")
    parser.add_argument("--width", type=int, default=128, help="hidden size of the DiT, of 4 blocks")
    parser.add_argument("--data", type=Path, help="cached toy-world clips of one size; left out: rendered now")
    parser.add_argument("--held-out", type=Path, help="the same, held out")
    parser.add_argument("--clips", type=int, default=600, help="clips to render where --data is left out")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per training captions and kind of held-out prompt, then their differences."""
    settings = DiTTraining(steps=options.steps, tokens=options.tokens, images=0.0, region=0.0, dropout=0.15)
    empty = load_text_encoder()([""])[0][0].bfloat16()
    caches = clips(options)
    judged = {kind: fixed_batches(with_captions(caches[1], kind), empty, settings) for kind in KINDS}
    measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        start = fresh(options.width, seed)
        for kind in KINDS:
            began = time.perf_counter()
            model = trained(deepcopy(start), with_captions(caches[0], kind), empty, replace(settings, seed=seed))
            for prompt in KINDS:
                measured.setdefault((kind, prompt), []).append(judge(model, judged[prompt], empty))
            print(f"seed {seed}, {kind}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    for (kind, prompt), values in measured.items():
        yield row(f"trained on {kind}, {prompt} prompts", values)
    for prompt in KINDS:
        pairs = zip(measured["detailed", prompt], measured["short", prompt], strict=True)
        yield row(f"detailed - short, {prompt} prompts", [(a[0] - b[0], a[1] - b[1]) for a, b in pairs])


def row(name: str, values: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Means and spreads (standard deviations over the seeds)."""
    losses, gains = zip(*values, strict=True)
    spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in (losses, gains)]
    return {
        "name": name,
        "loss": statistics.mean(losses),
        "loss spread": spread[0],
        "gain": statistics.mean(gains),
        "gain spread": spread[1],
        "seeds": len(values),
    }


def clips(options: argparse.Namespace) -> tuple[LatentCache, LatentCache]:
    """Clips to train on and held-out ones."""
    if options.data and options.held_out:
        return LatentCache(options.data), LatentCache(options.held_out)
    vae, encoder, size = load_checkpoint(EMBEDDED).vae(torch.bfloat16), load_text_encoder(), ClipSize.parse("64x64x9")
    with tempfile.TemporaryDirectory() as folder:
        parts = (("train", 0, options.clips), ("held", HELD_OUT, max(64, options.clips // 10)))
        for name, first, count in parts:
            cache_toy_world(Path(folder, name), vae, encoder, size, count, first=first)
        return LatentCache(Path(folder, "train")), LatentCache(Path(folder, "held"))


def with_captions(cache: LatentCache, kind: str) -> LatentCache:
    """The cache with one caption for each clip: its first, which is short, or its last, which is detailed."""
    chosen = copy(cache)
    which = 0 if kind == "short" else -1
    chosen.buckets = {size: [(z, [texts[which]]) for z, texts in rows] for size, rows in cache.buckets.items()}
    return chosen


def fresh(width: int, seed: int) -> DiT:
    """A small DiT as training starts it."""
    torch.manual_seed(seed)
    return DiT(replace(PRESETS["toy"], hidden_size=width, depth=4)).initialise()


def trained(model: DiT, cache: LatentCache, empty: Tensor, settings: DiTTraining, *, whole: int = 0) -> DiT:
    """The model after its steps, with averaged weights. whole: so many of the last ones are made without routing."""
    model.to(torch.bfloat16)
    optimiser = Optimiser(model, learning_rate=settings.learning_rate)
    average = EMA(optimiser.masters)
    for step in range(settings.steps):
        asked = replace(settings, route=0.0) if step >= settings.steps - whole else settings
        batch = draw_batch(cache, empty, asked, generator(settings.seed, step))
        batch_loss(model, batch, alignment=settings.alignment).backward()
        optimiser.step(learning_rate_scale(step, settings.steps, warmup=settings.warmup))
        average.update(optimiser.masters, step + 1)
    return averaged(model, average.weights).to(torch.bfloat16)


def fixed_batches(cache: LatentCache, empty: Tensor, settings: DiTTraining) -> list[Batch]:
    """Held-out clips with prompts at fixed noise levels, the same clips and noise for both kinds of prompt."""
    return [draw_batch(cache, empty, replace(settings, dropout=0.0), generator(1, i)) for i in range(JUDGED)]


@torch.no_grad()
def judge(model: DiT, batches: Sequence[Batch], empty: Tensor) -> tuple[float, float]:
    """Mean loss with the prompts, and the part of the loss with the empty prompt that they take away."""
    told = statistics.mean(float(batch_loss(model, batch)) for batch in batches)
    blank = statistics.mean(float(batch_loss(model, without_text(batch, empty))) for batch in batches)
    return told, 1 - told / blank


def without_text(batch: Batch, empty: Tensor) -> Batch:
    """The batch with the empty prompt for every clip."""
    context = torch.zeros_like(batch.context)
    context[:, : len(empty)] = empty
    mask = torch.zeros(context.shape[:2], dtype=torch.bool)
    mask[:, : len(empty)] = True
    return replace(batch, context=context, mask=mask)
