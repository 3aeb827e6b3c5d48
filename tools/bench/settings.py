"""With which settings is the embedded model best run? Judged like `bench fidelity`, on prompts that it does not use.

Every row changes one thing of what the card recommends. `right` is the mean share of colour, shape, motion and count
that a clip has right, `change` the mean difference from the recommended settings, clip by clip with equal prompts and
noise, with its standard error; `all four` as in `bench fidelity`; seconds are CPU time of a clip on one thread.
Whatever is chosen by this is then measured once on the prompts of `bench fidelity`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ...models.guidance import Guidance
from ...models.metrics.fidelity import Expectation, Verdict, held_out_scenes, judge
from ...models.recommended import CARD
from .fidelity import PROPERTIES, generated, share
from .sampling import add_sampling_options

AS_IT_IS = "as recommended"
CHANGES: dict[str, Mapping[str, Any]] = {
    AS_IT_IS: {},
    "guidance 1.5": {"cfg": 1.5},
    "guidance 3": {"cfg": 3.0},
    "guidance 3, rescaled": {"cfg": Guidance(mode="rescale", scale=3.0)},
    "guidance 3, levels 0.95 to 0.4": {"cfg": Guidance(scale=3.0, unit="sigma", start=0.95, end=0.4)},
    "CFG-Zero*": {"cfg": Guidance(mode="cfg_zero_star", scale=CARD.cfg)},
    "shift 1": {"shift": 1.0},
    "shift 3": {"shift": 3.0},
    "12 steps": {"steps": 12},
    "36 steps": {"steps": 36},
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=48, help="number of prompts")
    parser.add_argument("--prompts", type=int, default=1, help="seed of the prompts, not 0")
    parser.add_argument("--only", nargs="+", choices=[name for name in CHANGES if name != AS_IT_IS])
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """A row for each setting."""
    if not options.prompts:
        raise ValueError("the prompts of seed 0 are those of bench fidelity: settings are chosen by others")
    torch.set_num_threads(1)
    scenes = held_out_scenes(options.limit, options.prompts)
    wanted = [Expectation.of(scene) for _, scene, _ in scenes]
    before: list[float] = []
    for name, change in CHANGES.items():
        if options.only and name not in (AS_IT_IS, *options.only):
            continue
        began = time.process_time()
        clips = list(generated([prompt for prompt, _, _ in scenes], argparse.Namespace(**vars(options) | change)))
        seconds = (time.process_time() - began) / len(clips)
        print(f"{name}: {seconds:.2f} s a clip", file=sys.stderr, flush=True)
        verdicts = [judge(clip, one) for clip, one in zip(clips, wanted, strict=True)]
        scores = [score(verdict) for verdict in verdicts]
        before = before or scores
        yield row(name, verdicts, scores, before) | {"seconds": seconds, "n": len(clips)}


def score(verdict: Verdict) -> float:
    """The share of a clip's properties that are right."""
    return statistics.mean(float(verdict[name] is True) for name in PROPERTIES)


def row(name: str, verdicts: Sequence[Verdict], scores: Sequence[float], before: Sequence[float]) -> dict[str, Any]:
    """What a setting came to, beside the scores of the recommended ones."""
    apart = [one - other for one, other in zip(scores, before, strict=True)]
    error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
    found = {"name": name, "right": statistics.mean(scores), "change": statistics.mean(apart), "error": error}
    return found | {one: share(verdicts, one) for one in ("all four", *PROPERTIES)}
