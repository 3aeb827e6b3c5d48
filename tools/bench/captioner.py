"""Does the embedded captioner say what held-out clips show? Colours, shapes, motion and the rest, against the truth.

`value` is the share of clips whose caption states the property rightly. Two floors: `majority`, the likeliest value of
each property for every clip, and `shuffled`, the captions dealt to other clips. `truth` is the same reader on the true
captions. Clips are rendered anew; half of them show a colour, shape and motion that training never put together.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...models.captioner.captioner import load_captioner
from ...models.captioner.describer import Captioner
from ...models.checkpoints import load_checkpoint
from ...models.embedded import CAPTIONER, EMBEDDED
from ...models.geometry import ClipSize
from ...models.metrics.captions import PROPERTIES, Facts, compare, facts_of_scene, facts_of_text, share_right
from ...models.toyworld import KINDS, Scene, detailed_caption, render, sample_scene
from ...models.vae.autoencoder import fingerprint
from .sampling import sheet

SIZES = "64x64x33,96x96x33,64x64x17,96x64x33,64x64x32c,64x64x9"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--captioner", type=Path, default=CAPTIONER)
    parser.add_argument("--vae", type=Path, default=EMBEDDED)
    parser.add_argument("--sizes", default=SIZES, help="of the clips; a c makes loops")
    parser.add_argument("--limit", type=int, default=60, help="clips of each size")
    parser.add_argument("--sheet", type=Path, help="save a picture of the first clips with their captions")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per property for each size of clips, and for all of them in two groups."""
    vae = load_checkpoint(options.vae).vae()
    captioner = Captioner.of(options.captioner.stem, load_captioner(options.captioner), vae, fingerprint(vae))
    judged: dict[str, list[Judged]] = {}
    for size in ClipSize.parse_list(options.sizes):
        judged[str(size)] = list(described(captioner, size, options.limit))
        yield from report(str(size), judged[str(size)])
        if options.sheet and len(judged) == 1:
            first = judged[str(size)][:12]
            sheet([one.frames for one in first], [one.text for one in first]).save(options.sheet)
    every = [one for group in judged.values() for one in group]
    for name, unseen in (("seen combinations", False), ("unseen combinations", True)):
        yield from report(name, [one for one in every if one.unseen == unseen])


class Judged:
    """A clip, what the captioner says of it, and what is true."""

    def __init__(self, scene: Scene, frames: np.ndarray[Any, Any], text: str, true_text: str, unseen: bool) -> None:
        self.frames, self.text, self.unseen = frames, text, unseen
        self.truth, self.found, self.told = facts_of_scene(scene), facts_of_text(text), facts_of_text(true_text)


def described(captioner: Captioner, size: ClipSize, count: int) -> Iterator[Judged]:
    """Fresh clips of all kinds in turn with the captioner's words for them."""
    rng = np.random.default_rng([7, size.width, size.height, size.num_frames])
    kinds = ("bounce", "orbit", "circle", "spin") if size.cyclic else KINDS
    started = time.perf_counter()
    for number in range(count):
        unseen = number % 2 == 1
        scene = sample_scene(
            rng,
            kind=kinds[(number // 2) % len(kinds)],
            held_out=unseen,
            cyclic=size.cyclic,
            num_frames=size.num_frames,
            aspect=size.width / size.height,
        )
        frames = render(scene, num_frames=size.num_frames, height=size.height, width=size.width).frames
        chosen = captioner.pick(len(frames), captioner.fps, size.width, size.height)
        with torch.inference_mode():
            text = captioner.look(frames[chosen], chosen).paragraph
        yield Judged(scene, frames, text, detailed_caption(scene, rng), unseen)
    print(f"{count} clips of {size} in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def report(name: str, judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """A row per property."""
    guess = majority([one.truth for one in judged])
    told = {
        "value": [compare(one.found, one.truth) for one in judged],
        "majority": [compare(guess, one.truth) for one in judged],
        "shuffled": [compare(other.found, one.truth) for one, other in zip(judged, dealt(judged), strict=True)],
        "truth": [compare(one.told, one.truth) for one in judged],
    }
    for key in PROPERTIES:
        shares = {column: share_right(verdicts, key) for column, verdicts in told.items()}
        if shares["value"] is not None:
            yield {"name": f"{key}, {name}", **shares, "n": len(judged)}


def majority(truths: Sequence[Facts]) -> Facts:
    """Each property's commonest value, which is the best that one caption for all clips can say."""

    def commonest(key: str) -> Any:
        counted = Counter(value for one in truths if (value := getattr(one, key)) is not None)
        return counted.most_common(1)[0][0] if counted else None

    return Facts(*map(commonest, ("objects", "motion", "direction", "camera", "floor", "sky")))


def dealt(judged: Sequence[Judged]) -> list[Judged]:
    """The clips in a fixed random order, none in its own place."""
    order = np.random.default_rng(0).permutation(len(judged))
    place = np.empty(len(judged), dtype=int)
    place[order] = np.roll(order, 1)
    return [judged[i] for i in place]
