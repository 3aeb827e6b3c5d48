"""A stream of the embedded model: time for each frame, memory, and drift over a minute, beside Extend Far.

Each goes on from the same true clips of the toy world with their prompts. `s a frame` is process time on one thread,
decoding included; `colour`, `contrast` and `sharpness` are how far the last second is from the first, in % of full
scale (colour) or of the first second: medians over the clips of their size, whatever their sign. `peak_mb` is what
streaming so many seconds into a file takes beside the models, in a process of its own (see the benchmark of memory).
`cache` is how many times faster a stream could be at best if the model were causal and kept keys and values: then only
the open latents would be computed at each step, and each one that has come out once more, clean. Nothing is counted
for reading what is kept, so it is a bound.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...models.endless import prompted
from ...models.guidance import Guidance
from ...models.metrics.video import measure_video
from ...models.rolling import DenoiserOf, Rolling, Window, opened, stream
from ...models.schedules import sigma_of, sigmas
from ...models.solvers import Solver
from ...models.tasks.canvas import Canvas
from ...models.tasks.far import Windows, extend_far
from ...models.tasks.prompts import Key
from . import tasks
from .decoding import images
from .memory import measured
from .peak import FPS

DRIFTS = ("colour drift", "contrast drift", "sharpness drift")
WINDOW, CONTEXT = 9, 3  # latents
ROUNDS = 7
ROW = dict.fromkeys(("s a frame", "colour", "contrast", "sharpness", "cache", "n", "peak_mb"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    tasks.add_options(parser)
    parser.set_defaults(limit=3)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Memory at three lengths, then a row for each way to make a long video; or the rows whose names begin so."""
    torch.set_num_threads(1)
    for seconds in () if options.only else (1, 10, 60):
        taken = measured("stream", seconds)["peak_mb"]
        yield {"name": f"{seconds} s into a file", **ROW, "peak_mb": taken, "n": 1}
    for name, few, way in (
        ("stream, few steps", True, streamed),
        ("stream", False, streamed),
        ("Extend Far, few steps", True, extended),
        ("Extend Far", False, extended),
    ):
        if not name.startswith(options.only or ""):
            continue
        bench = tasks.Bench(argparse.Namespace(**vars(options) | {"few_steps": few}))
        bound = {"cache": cached_at_best(bench)} if way is streamed else {}
        yield {"name": name, **ROW, **judged(bench, way, name), **bound}


def judged(bench: tasks.Bench, way: Any, name: str) -> dict[str, Any]:
    """Time for each new frame, and the drifts."""
    costs, drifts = [], []
    for index in range(bench.options.limit):
        print(f"\r{name}: clip {index + 1}", end="\r", file=sys.stderr, flush=True)
        begin = time.process_time()
        with torch.no_grad():
            kept = [frame for piece in way(bench, index) for frame in images(piece)]
        costs.append((time.process_time() - begin) / (len(kept) - len(bench.truths[index])))
        report = measure_video(kept, FPS, with_motion=False)
        drifts.append([abs(report.value(one)) for one in DRIFTS])
    medians = [round(statistics.median(one), 3) for one in zip(*drifts, strict=True)]
    named = dict(zip((one.removesuffix(" drift") for one in DRIFTS), medians, strict=True))
    return {"s a frame": round(statistics.median(costs), 4), **named, "n": len(costs)}


def more(bench: tasks.Bench, clip: Tensor) -> int:
    """Latents that are missing to the length that was asked for."""
    return round(bench.options.seconds * FPS / 4) - clip.shape[2] + 1


def parts(bench: tasks.Bench, index: int) -> tuple[Rolling, DenoiserOf]:
    """The windows of a clip's stream, and the model that its prompt makes of them."""
    options = bench.options
    levels = sigmas("linear", options.steps, shift=options.shift)
    rolling = Rolling.within(WINDOW, CONTEXT, levels, Solver(name=options.solver), options.seed + index)
    keys = [Key(0.0, None, bench.prompts[index])]
    return rolling, prompted(bench.models, keys, Guidance(scale=options.cfg), sigma_of(options.shift))


@torch.no_grad()
def cached_at_best(bench: tasks.Bench) -> float:
    """Time for a latent as it is, over what is left of it where clean latents are computed once."""
    rolling, denoiser_of = parts(bench, 0)
    shape = bench.latents[0].shape
    weight = bench.models.vae.decoder.linear.weight

    def call(length: int) -> Callable[[], object]:
        window = Window(torch.zeros(*shape[:2], length, *shape[3:]), 0, 0)
        denoise, level = denoiser_of(window), torch.full((1, length), 0.5)
        return lambda: denoise(window.latents, level)

    # two more latents cost what one costs, beginning and end of a stream aside
    pieces = [call(n) for n in (WINDOW, rolling.open, 1)] + [
        lambda n=n: list(bench.models.vae.decode_stream(bench.latents[0][:, :, :n].to(weight).split(1, dim=2)))
        for n in (1, 3)
    ]
    whole, opened_alone, one, short, long = (statistics.median(row) for row in zip(*turns(pieces), strict=True))
    decoding = (long - short) / 2
    return round((rolling.each * whole + decoding) / (rolling.each * opened_alone + one + decoding), 3)


def turns(pieces: Sequence[Callable[[], object]]) -> Iterator[list[float]]:
    """Process time of each, taking turns, after one that does not count."""
    for number in range(1 + ROUNDS):
        row = []
        for piece in pieces:
            begin = time.process_time()
            piece()
            row.append(time.process_time() - begin)
        if number:
            yield row


def streamed(bench: tasks.Bench, index: int) -> Iterator[Tensor]:
    """Pixels (1, 3, f, H, W) of a true clip that goes on as a stream."""
    clip = bench.latents[index]
    rolling, denoiser_of = parts(bench, index)
    weight = bench.models.vae.decoder.linear.weight

    def latents() -> Iterator[Tensor]:
        yield clip.to(weight)
        for latent, _ in islice(stream(rolling, opened(rolling, clip), denoiser_of), more(bench, clip)):
            yield latent.to(weight)

    return bench.models.vae.decode_stream(latents())


def extended(bench: tasks.Bench, index: int) -> Iterator[Tensor]:
    """The same of Extend Far, as the benchmark of tasks extends."""
    clip = bench.latents[index]

    def window(canvas: Canvas, number: int) -> Tensor:
        return bench.generate(canvas, bench.prompts[index], bench.options.seed + 1000 * index + number)

    windows = Windows(window=WINDOW, context=4, anchor=bench.options.anchor)
    made = extend_far(clip, more(bench, clip), windows, window)
    weight = bench.models.vae.decoder.linear.weight
    return bench.models.vae.decode_stream(made.latents.to(weight).split(8, dim=2))
