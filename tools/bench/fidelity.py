"""Do the embedded model's videos show what held-out prompts ask for? Colour, shape, motion and count, from pixels.

`value` is the share of clips that are right, `few steps` that of the form for few steps, `truth` what the same judge
gives rendered clips of the same scenes: the most that can be reached. A property that cannot be judged, as its object
is missing, counts as wrong.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...models.metrics.fidelity import Expectation, Verdict, held_out_scenes, judge
from ...models.toyworld import Scene, render
from .sampling import Frames, add_sampling_options, load_models, sampled, sheet, sizes

PROPERTIES = ("colour", "shape", "motion", "count")
GROUPS = ("unseen combination", "unseen wording")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=120, help="number of prompts")
    parser.add_argument("--prompts", type=int, default=0, help="seed of the prompts; choose settings by others than 0")
    parser.add_argument("--both", action="store_true", help="beside it the checkpoint's form for few steps")
    parser.add_argument("--sheet", type=Path, help="save a picture of all clips with their prompts and verdicts")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per property for all prompts, then one per property and group."""
    scenes = held_out_scenes(options.limit, options.prompts)
    expected = [Expectation.of(scene) for _, scene, _ in scenes]
    prompts = [prompt for prompt, _, _ in scenes]
    clips = timed(prompts, options)
    verdicts = [judge(clip, wanted) for clip, wanted in zip(clips, expected, strict=True)]
    few = timed(prompts, argparse.Namespace(**vars(options) | {"few_steps": True})) if options.both else []
    others = [judge(clip, wanted) for clip, wanted in zip(few, expected, strict=False)]
    if options.sheet:
        sheet(clips, [f"{prompt}\n{described(v)}" for (prompt, _, _), v in zip(scenes, verdicts, strict=True)]).save(
            options.sheet
        )
    truth = [judge(drawn(scene, options.size), wanted) for (_, scene, _), wanted in zip(scenes, expected, strict=True)]
    for group in ("", *GROUPS):
        chosen = [i for i, (_, _, own) in enumerate(scenes) if group in {"", own}]
        for name in (*PROPERTIES, "all four"):
            yield {
                "name": f"{name}, {group}" if group else name,
                "value": share([verdicts[i] for i in chosen], name),
                **({"few steps": share([others[i] for i in chosen], name)} if others else {}),
                "n": len(chosen),
                "truth": share([truth[i] for i in chosen], name),
            }


def timed(prompts: Sequence[str], options: argparse.Namespace) -> list[Frames]:
    """A clip per prompt; says how long they took."""
    started = time.perf_counter()
    clips = list(generated(prompts, options))
    print(f"{len(clips)} clips in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return clips


def share(verdicts: Sequence[Verdict], name: str) -> float:
    """The part of the clips in which a property, or "all four", is right."""
    names = PROPERTIES if name == "all four" else (name,)
    return float(np.mean([all(verdict[one] is True for one in names) for verdict in verdicts])) if verdicts else 0.0


def generated(prompts: Sequence[str], options: argparse.Namespace) -> Iterator[Frames]:
    """A clip per prompt, `batch` at once; clip i starts from the noise of seed + i."""
    models = load_models(options)
    _, _, frames = sizes(options.size)
    for first in range(0, len(prompts), options.batch):
        yield from sampled(models, prompts, options, first, frames=frames)
        print(f"\r{min(first + options.batch, len(prompts))} of {len(prompts)}", end="\r", file=sys.stderr, flush=True)


def drawn(scene: Scene, size: str) -> Frames:
    """The true clip."""
    width, height, frames = sizes(size)
    return render(scene, num_frames=frames, height=height, width=width).frames


def described(verdict: Verdict) -> str:
    """What is wrong with a clip."""
    wrong = [name for name in PROPERTIES if verdict[name] is not True]
    return f"wrong: {', '.join(wrong)}" if wrong else "all right"
