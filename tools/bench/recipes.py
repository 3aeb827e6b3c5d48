"""Do representation alignment, balanced classes and token routing pay? Paired runs of a small DiT on toy-world clips.

Per seed all runs start from the same weights and draw the same noise; each row differs from the one in `against` by
what its name says. `loss` is the flow-matching loss on held-out clips (lower is better), `rare` that on clips of the
kinds that are rare in uneven clips, `change` and `rare change` the differences from the row in `against`, with their
standard deviations over the seeds; seconds are CPU time of all steps on one thread.

aligned           half of the loss beside: a block is to tell what the simulator knows of each patch (REPA)
routed            half of the patches go past half of the blocks (TREAD), but in the last tenth of the steps
... in equal time as many steps as the plain run's CPU time is enough for
uneven            of every second kind of clip three quarters are left out; balanced: drawn alike often all the same
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.checkpoints import load_checkpoint
from ...models.clips.cache import LatentCache
from ...models.clips.clips import HELD_OUT
from ...models.clips.toy import cache_toy_world
from ...models.embedded import EMBEDDED
from ...models.files import read_json, write_json
from ...models.geometry import ClipSize
from ...models.text.encoder import load_text_encoder
from ...models.training.dit.alignment import add_aligner
from ...models.training.dit.batches import Batch, draw_batch
from ...models.training.dit.settings import DiTTraining
from ...models.training.dit.train import validation_loss
from ...models.training.run.folder import generator
from ...models.transformer.config import PRESETS
from ...models.transformer.dit import DiT
from ...models.transformer.routing import blocks_past
from .captions_for_training import trained

JUDGED = 12  # held-out batches
RARE = 4  # of so many clips of a rare kind one is left in uneven clips
RESULTS = "results.json"
WHOLE = 0.1  # share of a routed run's steps, its last ones, in which no patch goes past a block


@dataclass(frozen=True)
class Run:
    """One kind of run, and the one that it is held against."""

    against: str = "plain"
    changes: tuple[tuple[str, float], ...] = ()
    uneven: bool = False
    equal_time: bool = False  # as many steps as the other's CPU time is enough for


RUNS = {
    "plain": Run(),
    "aligned": Run(changes=(("alignment", 0.5),)),
    "routed": Run(changes=(("route", 0.5),)),
    "routed, in equal time": Run(changes=(("route", 0.5),), equal_time=True),
    "uneven": Run(uneven=True),
    "uneven, balanced": Run("uneven", (("balance", 1.0),), uneven=True),
}


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    loss: float
    rare: float
    seconds: float
    steps: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=640, help="patches per step")
    parser.add_argument("--width", type=int, default=128, help="hidden size of the DiT")
    parser.add_argument("--depth", type=int, default=4, help="its blocks, 4 or more")
    parser.add_argument("--size", default="64x64x17")
    parser.add_argument("--clips", type=int, default=200, help="clips to train on")
    parser.add_argument("--cache", type=Path, help="folder to keep clips and results in, which goes on after a stop")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """A row for each kind of run, over all seeds."""
    torch.set_num_threads(1)
    edge = options.depth // 4
    plain = DiTTraining(
        steps=options.steps,
        tokens=options.tokens,
        images=0.0,
        warmup=max(1, options.steps // 10),
        route_start=edge,
        route_end=-edge,
    )
    empty = load_text_encoder()([""])[0][0].bfloat16()
    with tempfile.TemporaryDirectory() as folder:
        cache, held_out = clips(options.cache or Path(folder), ClipSize.parse(options.size), options.clips)
    rare = rare_kinds(cache)
    judged = [fixed_batches(kept, empty, plain) for kept in (held_out, only(held_out, lambda kind: kind in rare))]
    uneven = thinned(cache, rare)
    found: dict[str, list[Result]] = {name: [] for name in RUNS}
    known = read_json(options.cache / RESULTS, dict) if options.cache and (options.cache / RESULTS).exists() else {}
    for seed in range(options.seeds):
        start = fresh(options.width, options.depth, seed)
        for name, run in RUNS.items():
            settings = settings_of(run, replace(plain, seed=seed), found)
            label = f"{name}, seed {seed}, {settings.steps} of {options.steps} steps, {described(options)}"
            if label not in known:
                result = measured(start, uneven if run.uneven else cache, empty, settings, judged)
                known[label] = asdict(result)
                if options.cache:
                    write_json(options.cache / RESULTS, known, indent=1)
            found[name].append(Result(**known[label]))
            print(f"{label}: {found[name][-1]}", file=sys.stderr, flush=True)
    for name in RUNS:
        yield row(name, found)


def described(options: argparse.Namespace) -> str:
    """What all runs have in common, but for their number of steps."""
    return f"{options.tokens} patches, {options.width} x {options.depth}, {options.clips} clips of {options.size}"


def settings_of(run: Run, plain: DiTTraining, found: dict[str, list[Result]]) -> DiTTraining:
    """The settings of a run; how many steps there is time for follows from the run of the same name before it."""
    settings = replace(plain, **dict(run.changes))
    if not run.equal_time:
        return settings
    before = next(name for name, other in RUNS.items() if other == replace(run, equal_time=False))
    share = found[run.against][-1].seconds / found[before][-1].seconds
    return replace(settings, steps=round(plain.steps * share))


def measured(
    start: DiT, cache: LatentCache, empty: Tensor, settings: DiTTraining, judged: Sequence[Sequence[Batch]]
) -> Result:
    """One run."""
    torch.manual_seed(settings.seed)
    model = deepcopy(start)
    if settings.alignment:
        add_aligner(model, cache.known_channels)
    whole = 0
    if settings.route:
        model.routed = blocks_past(len(model.blocks), settings.route_start, settings.route_end)
        whole = round(WHOLE * settings.steps)
    began = time.process_time()
    made = trained(model, cache, empty, settings, whole=whole)
    seconds = time.process_time() - began
    loss, rare = (validation_loss(made, batches) for batches in judged)
    return Result(loss, rare, seconds, settings.steps)


def row(name: str, found: dict[str, list[Result]]) -> dict[str, Any]:
    """Means over the seeds."""
    own, other = found[name], found[RUNS[name].against]
    pairs = list(zip(own, other, strict=True))
    changes = [a.loss - b.loss for a, b in pairs], [a.rare - b.rare for a, b in pairs]
    spreads = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in changes]
    return {
        "name": name,
        "against": RUNS[name].against,
        "steps": round(statistics.mean(result.steps for result in own)),
        "seconds": statistics.mean(result.seconds for result in own),
        "loss": statistics.mean(result.loss for result in own),
        "change": statistics.mean(changes[0]),
        "spread": spreads[0],
        "rare": statistics.mean(result.rare for result in own),
        "rare change": statistics.mean(changes[1]),
        "rare spread": spreads[1],
        "seeds": len(own),
    }


def clips(place: Path, size: ClipSize, count: int) -> tuple[LatentCache, LatentCache]:
    """Toy-world clips with what the simulator knows of them: to train on, and held-out ones."""
    vae, encoder = load_checkpoint(EMBEDDED).vae(torch.bfloat16), load_text_encoder()
    for name, first, number in (("train", 0, count), ("held-out", HELD_OUT, max(64, count // 2))):
        cache_toy_world(place / name, vae, encoder, size, number, first=first, truth=True)
    return LatentCache(place / "train"), LatentCache(place / "held-out")


def fresh(width: int, depth: int, seed: int) -> DiT:
    """A small DiT as training starts it."""
    torch.manual_seed(seed)
    return DiT(replace(PRESETS["toy"], hidden_size=width, depth=depth)).initialise()


def rare_kinds(cache: LatentCache) -> set[str]:
    """Every second kind of clip."""
    return set(cache.class_names[::2])


def only(cache: LatentCache, wanted: Callable[[str], bool]) -> LatentCache:
    """The cache with the clips whose kind is wanted; `wanted` is asked clip by clip."""
    chosen = copy(cache)
    kept = {size: [i for i, kind in enumerate(kinds) if wanted(kind)] for size, kinds in cache.classes.items()}
    chosen.buckets, chosen.known, chosen.classes = (
        {size: [rows[size][i] for i in numbers] for size, numbers in kept.items()}
        for rows in (cache.buckets, cache.known, cache.classes)
    )
    chosen.weights = {}
    return chosen


def thinned(cache: LatentCache, rare: set[str]) -> LatentCache:
    """The cache with one in four of the clips of rare kinds."""
    numbers: dict[str, Iterator[int]] = {kind: iter(range(10**9)) for kind in rare}
    return only(cache, lambda kind: kind not in rare or next(numbers[kind]) % RARE == 0)


def fixed_batches(cache: LatentCache, empty: Tensor, settings: DiTTraining) -> list[Batch]:
    """Held-out clips at fixed noise levels."""
    return [draw_batch(cache, empty, replace(settings, dropout=0.0), generator(1, i)) for i in range(JUDGED)]
