"""A stream of the embedded model: time for each frame, memory, and drift over a minute, beside Extend Far.

Each goes on from the same true clips of the toy world with their prompts. `s a frame` is process time on one thread,
decoding included; `colour`, `contrast` and `sharpness` are how far the last second is from the first, in % of full
scale (colour) or of the first second: medians over the clips of their size, whatever their sign. `peak_mb` is what
streaming so many seconds into a file takes beside the models, in a process of its own (see the benchmark of memory).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...models.endless import prompted
from ...models.guidance import Guidance
from ...models.metrics.video import measure_video
from ...models.rolling import Rolling, opened, stream
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
ROW = dict.fromkeys(("s a frame", "colour", "contrast", "sharpness", "n", "peak_mb"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    tasks.add_options(parser)
    parser.set_defaults(limit=3)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Memory at three lengths, then a row for each way to make a long video."""
    torch.set_num_threads(1)
    for seconds in (1, 10, 60):
        taken = measured("stream", seconds)["peak_mb"]
        yield {"name": f"{seconds} s into a file", **ROW, "peak_mb": taken, "n": 1}
    for name, few, way in (
        ("stream, few steps", True, streamed),
        ("stream", False, streamed),
        ("Extend Far", False, extended),
    ):
        bench = tasks.Bench(argparse.Namespace(**vars(options) | {"few_steps": few}))
        yield {"name": name, **ROW, **judged(bench, way, name)}


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


def streamed(bench: tasks.Bench, index: int) -> Iterator[Tensor]:
    """Pixels (1, 3, f, H, W) of a true clip that goes on as a stream."""
    options, clip = bench.options, bench.latents[index]
    levels = sigmas("linear", options.steps, shift=options.shift)
    rolling = Rolling.within(WINDOW, CONTEXT, levels, Solver(name=options.solver), options.seed + index)
    keys = [Key(0.0, None, bench.prompts[index])]
    denoiser_of = prompted(bench.models, keys, Guidance(scale=options.cfg), sigma_of(options.shift))
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
