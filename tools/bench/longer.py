"""Videos longer than those of the training in one run, with and without slowing down a frequency of time (RIFLEx).

`repetition` says how far the video starts again (0 to 1; `true` clips of the same scenes set the mark, as some motions
do repeat), `flicker` and `change` per frame are in % of full scale, `sharpness` is the last quarter's over the first's,
and `colour`, `shape`, `count`, `motion` are the shares of clips that show what the prompt says, judged on all frames.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from ...models.checkpoints import known_sizes, load_checkpoint
from ...models.metrics.fidelity import Expectation, held_out_scenes, judge
from ...models.metrics.repetition import repetition
from ...models.metrics.seam import changes
from ...models.metrics.video import flicker, sharpness
from ...models.toyworld import Scene, render
from .fidelity import PROPERTIES, share
from .sampling import Frames, add_sampling_options, load_models, sampled, sheet, sizes


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=20, help="number of prompts")
    parser.add_argument("--times", type=float, default=2.0, help="how many times as long as --size")
    parser.add_argument("--sheet", type=Path, help="save a picture of the clips")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per way: true clips, the known length, longer as it is, longer with a frequency slowed down."""
    models = load_models(options)
    width, height, usual = sizes(options.size)
    known = known_sizes(load_checkpoint(options.checkpoint).meta)
    trained = known.frames if known else usual
    long = 1 + 4 * round((usual * options.times - 1) / 4)
    chosen = held_out_scenes(options.limit)
    ways = {f"{usual} frames": (usual, 0), f"{long} frames": (long, 0), f"{long} frames, slowed": (long, trained)}
    shown: list[Frames] = []
    for frames in (usual, long):
        truth = [render(scene, num_frames=frames, height=height, width=width).frames for _, scene, _ in chosen]
        yield row(f"{frames} frames, true", truth, [scene for _, scene, _ in chosen])
    prompts = [prompt for prompt, _, _ in chosen]
    for name, (frames, trained_frames) in ways.items():
        clips: list[Frames] = []
        for first in range(0, len(chosen), options.batch):
            print(f"\r{name}: {first} of {len(chosen)}", end="\r", file=sys.stderr, flush=True)
            clips += sampled(models, prompts, options, first, frames=frames, trained_frames=trained_frames)
        yield row(name, clips, [scene for _, scene, _ in chosen])
        shown += clips[:6]
    if options.sheet:
        captions = [f"{name}\n{prompt}" for name in ways for prompt in prompts[:6]]
        sheet(shown, captions, columns=13).save(options.sheet)


def row(name: str, clips: Sequence[Frames], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Means over clips."""
    verdicts = [judge(clip, Expectation.of(scene)) for clip, scene in zip(clips, scenes, strict=True)]
    numbers = np.array([measured(clip) for clip in clips]).mean(axis=0)
    return {
        "name": name,
        **{key: round(float(value), 3) for key, value in zip(MEASURED, numbers, strict=True)},
        **{key: share(verdicts, key) for key in PROPERTIES},
        "n": len(clips),
    }


MEASURED = ("repetition", "flicker", "change", "sharpness")


def measured(clip: Frames) -> tuple[float, ...]:
    """MEASURED of one clip."""
    frames = torch.from_numpy(clip).float() / 255
    part = len(frames) // 4
    ends = [fmean(sharpness(frame) for frame in some) for some in (frames[:part], frames[-part:])]
    flickers = [flicker(*frames[i : i + 3]) for i in range(len(frames) - 2)]
    return repetition(clip), 100 * fmean(flickers), 100 * fmean(changes(iter(frames))), ends[1] / ends[0]
