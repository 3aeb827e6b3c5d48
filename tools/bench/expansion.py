"""Does expansion matter? Fidelity on held-out prompts as they are, expanded offline, and by the small language model.

All three start from the same noise, prompt by prompt, so the difference to the prompt as it is can be paired. `value`:
share of clips that are right. `difference`: to the prompts as they are, with `error`, the standard error of its mean
over the prompts. `by model`: captions that have words of the language model in them.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...models.metrics.fidelity import Expectation, Verdict, held_out_scenes, judge
from ...models.text.captions import expand
from ...models.text.interface import LanguageModel
from .captions import model_of
from .fidelity import PROPERTIES, generated, share
from .sampling import add_sampling_options

WAYS = ("as it is", "offline", "local model")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=60, help="number of prompts")
    parser.add_argument("--show", action="store_true", help="print the captions")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Per way, one row per property and one for all four."""
    scenes = held_out_scenes(options.limit)
    prompts = [prompt for prompt, _, _ in scenes]
    plain: list[Verdict] = []
    for way in WAYS:
        captions, by_model = written(prompts, way)
        if options.show:
            print(f"{way}:", *captions, sep="\n  ", file=sys.stderr, flush=True)
        clips = generated(captions, options)
        verdicts = [judge(clip, Expectation.of(scene)) for clip, (_, scene, _) in zip(clips, scenes, strict=True)]
        plain = plain or verdicts
        for name in (*PROPERTIES, "all four"):
            mean, error = paired(verdicts, plain, name)
            yield {
                "name": f"{name}, {way}",
                "value": share(verdicts, name),
                "n": len(verdicts),
                "difference": mean,
                "error": error,
                "by model": by_model,
            }


def written(prompts: Sequence[str], way: str) -> tuple[list[str], int]:
    """The captions, and how many have words of a language model in them."""
    if way == "as it is":
        return list(prompts), 0
    with model_of(way) as model:
        found = [expanded(prompt, model, seed) for seed, prompt in enumerate(prompts)]
    return [text for text, _ in found], sum(by_model for _, by_model in found)


def expanded(prompt: str, model: LanguageModel | None, seed: int) -> tuple[str, bool]:
    """One caption in the style that the embedded model was trained on."""
    result = expand(prompt, "model" if model else "offline", language_model=model, style="plain", seed=seed)
    return result.text, result.source.startswith("model")


def paired(verdicts: Sequence[Verdict], plain: Sequence[Verdict], name: str) -> tuple[float, float]:
    """Mean difference of a property over the prompts, and the standard error of that mean."""
    change = np.array([share([one], name) - share([other], name) for one, other in zip(verdicts, plain, strict=True)])
    error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else float("nan")
    return float(change.mean()), error
