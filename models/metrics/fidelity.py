"""Does a clip show what its prompt asked for? Judged from pixels alone.

Objects are found and followed by colour (segmentation.py), since a prompt never asks for two of one colour.
colour: every colour asked for is there. count: as many objects as asked for, no more, no fewer. shape: the silhouettes
of each object, in frames where it is whole, look like the shape asked for. motion: the objects' tracks, visibility
and the change of the backdrop do what the prompt says. None means that it cannot be judged since its object was not
found. tests/models/test_fidelity.py holds this judge against rendered clips whose truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..toyworld import KINDS, Scene, caption_held_out, sample_scene, short_caption
from ..toyworld.world import COLOURS
from .motions import MOTIONS, evidence, track
from .segmentation import Blob, find_blobs
from .silhouettes import shape_of

Verdict = dict[str, bool | None]
PRESENT = 0.3  # part of the frames in which something must be seen to count as an object


@dataclass(frozen=True)
class Expectation:
    """What a prompt asks for: (colour, shape) of each object, actor first, the kind of motion and its direction."""

    objects: tuple[tuple[str, str], ...]
    kind: str
    direction: str | None = None

    def __post_init__(self) -> None:
        needed = 2 if self.kind in ("collide", "circle") else 1
        if self.kind not in KINDS:
            raise ValueError(f"cannot judge motion of kind {self.kind!r}: use one of {', '.join(KINDS)}")
        if len(self.objects) < needed:
            raise ValueError(f"motion of kind {self.kind!r} needs at least {needed} objects, got {len(self.objects)}")

    @classmethod
    def of(cls, scene: Scene) -> Expectation:
        """What a scene's captions say."""
        return cls(tuple((body.colour, body.shape) for body in scene.objects), scene.kind, scene.direction)


def judge(frames: NDArray[np.uint8], expected: Expectation) -> Verdict:
    """Compare a clip (F, H, W, 3) uint8 with what was asked for."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"judge wants frames (F, H, W, 3) as uint8, got {frames.shape} {frames.dtype}")
    blobs = find_blobs(frames)
    found = count_objects(blobs)
    tracks = [track(blobs, colour, frames.shape[1:3]) for colour, _ in expected.objects]
    present = [colour in found for colour, _ in expected.objects]
    shapes = [shape_of(t.blobs, blobs, frames.shape[1:3]) for t in tracks]
    known = [s == shape for s, (_, shape), there in zip(shapes, expected.objects, present, strict=True) if there and s]
    moving: bool | None = None
    if all(present) and len(frames) >= 9:
        way = {"left": -1.0, "right": 1.0}.get(expected.direction or "", 0.0)
        moving = bool(MOTIONS[expected.kind](evidence(frames, blobs, tracks), way))
    return {
        "colour": all(present),
        "shape": all(known) if known else None,
        "motion": moving,
        "count": sum(found.values()) == len(expected.objects),
    }


def count_objects(blobs: list[list[Blob]]) -> dict[str, int]:
    """How many objects of each colour a clip shows. A colour counts when it is there in PRESENT of the frames."""
    result = {}
    for colour in COLOURS:
        per_frame = [[b.area for b in frame if b.name == colour] for frame in blobs]
        seen = [areas for areas in per_frame if areas]
        if len(seen) >= max(1.0, PRESENT * len(blobs)):
            # a second one must be of similar size in most of the frames: a passing occluder splits one for a moment
            result[colour] = int(np.median([sum(area > 0.3 * max(areas) for area in areas) for areas in seen]))
    return result


def held_out_scenes(n: int = 120, seed: int = 0) -> list[tuple[str, Scene, str]]:
    """n prompts with the scenes that they describe, half of each group, all kinds in turn.

    "unseen combination": the usual words for a colour, shape and motion that training never put together.
    "unseen wording": sentences and words that training never used, for combinations that it did.
    """
    rng = np.random.default_rng(seed)
    result = []
    for i in range(n):
        kind, unseen = KINDS[(i // 2) % len(KINDS)], i % 2 == 0
        scene = sample_scene(rng, kind=kind, held_out=unseen)
        prompt = short_caption(scene, rng) if unseen else caption_held_out(scene, rng)
        result.append((prompt, scene, "unseen combination" if unseen else "unseen wording"))
    return result


def held_out_prompts(n: int = 120, seed: int = 0) -> list[tuple[str, Expectation, str]]:
    """The prompts of held_out_scenes with what they ask for."""
    return [(prompt, Expectation.of(scene), group) for prompt, scene, group in held_out_scenes(n, seed)]
