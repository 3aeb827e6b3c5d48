"""Does the embedded model simulate its world? Continuations of true clips: permanence, 3D, physics, coherence.

Each case is a held-out scene of the toy world whose first frames are given; the model continues them. `truth` is what
the true continuation scores (the ceiling), `frozen` and `shuffled` what a frozen frame and the true frames in random
order do (the floors). For errors less is better, for shares and correlations more.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...models.generate import Models, generate
from ...models.metrics.probe_cases import PROBES, cases
from ...models.metrics.probes import MEASURES, Case
from ...models.metrics.simulation import scores
from ...models.pixels import from_uint8
from ...models.tasks.along_time import extend
from ...models.vae.autoencoder import TIME
from .sampling import Frames, add_sampling_options, load_models, sheet, sizes


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=12, help="clips per probe")
    parser.add_argument("--only", choices=list(PROBES), help="one probe")
    parser.add_argument("--sheet", type=Path, help="save a picture of the true clips and the model's")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per probe and measure."""
    models = load_models(options)
    width, height, frames = sizes(options.size)
    clips: list[Frames] = []
    captions: list[str] = []
    for name in [options.only] if options.only else PROBES:
        probe = PROBES[name]
        chosen = cases(name, options.limit, height=height, width=width, num_frames=frames)
        made = continued(models, chosen, options)
        for case, clip in zip(chosen[:4], made, strict=False):
            clips += [case.truth.frames, clip]
            captions += [f"{name}: truth\n{case.prompt}", f"model, {probe.known} frames given"]
        for measure in probe.measures:
            yield {
                "name": f"{name}: {measure}",
                "unit": MEASURES[measure].unit,
                **{who: float(np.mean(values)) for who, values in scores(measure, chosen, made).items()},
                "n": len(chosen),
            }
        if options.sheet:
            sheet(clips, captions, columns=10).save(options.sheet)


def continued(models: Models, chosen: Sequence[Case], options: argparse.Namespace) -> list[Frames]:
    """Each case's known frames and what the model makes of them, as long as the true clip.

    Windows of the model's own length; each begins with the last `known` frames of the one before.
    """
    known, total = chosen[0].known, len(chosen[0].truth.frames)
    window = sizes(options.size)[2]
    made = [case.truth.frames[:known] for case in chosen]
    while len(made[0]) < total:
        for first in range(0, len(chosen), options.batch):
            part = slice(first, first + options.batch)
            prompts = [case.prompt for case in chosen[part]]
            longer = window_after(models, [clip[-known:] for clip in made[part]], prompts, window, options, first)
            made[part] = [np.concatenate([a, b[known:]]) for a, b in zip(made[part], longer, strict=True)]
        print(f"\r{chosen[0].probe}: {len(made[0])} of {total} frames", end="\r", file=sys.stderr, flush=True)
    return [clip[:total] for clip in made]


def window_after(
    models: Models,
    tails: Sequence[Frames],
    prompts: Sequence[str],
    window: int,
    options: argparse.Namespace,
    first: int,
) -> list[Frames]:
    """Clips of `window` frames that begin with these tails."""
    weight = models.vae.encoder.linear.weight
    with torch.no_grad():
        latents = torch.cat([models.vae.encode(from_uint8(tail)[None].to(weight)).float() for tail in tails])
    canvas = extend(latents, after=(window - len(tails[0])) // TIME)
    return generate(
        models,
        prompts,
        known=canvas,
        steps=options.steps,
        cfg=options.cfg,
        shift=options.shift,
        solver=options.solver,
        seed=options.seed + first,
    )
