"""Which clips are held out: whole files, chosen by a hash of their names, so that no file is on both sides.

A file's side does not depend on the others, so files that are added or taken away move no other one. Only while there
are so few that none falls into the held-out tenth, or more than half of the clips do, the one with the fewest clips is
held out instead; the index remembers it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .entries import stem_of

SHARE = 0.1


@dataclass(frozen=True)
class Place:
    """Where a clip comes from: its file, the scene of it, and where it starts in seconds."""

    file: str
    scene: int
    start: float


def held_out(places: Sequence[Place], before: Collection[str] = ()) -> frozenset[Place]:
    """The clips of a tenth of the files, at least of one, never of all; a single clip is both held out and trained on.

    Files with one stem (walk.mp4, walk.mov) are likely to show the same and go together. Where all clips are of one
    file its scenes are shared out; where all are of one scene, its last tenth is held out. before: stems of files that
    were held out when the folder was looked at last.
    """
    files = {place: stem_of(place.file) for place in places}
    scenes = {place: f"{files[place]} {place.scene}" for place in places}
    for names in (files, scenes):
        counts = Counter(names.values())
        if len(counts) > 1:
            chosen = _chosen(counts, before)
            return frozenset(place for place, name in names.items() if name in chosen)
    ordered = sorted(places, key=lambda place: place.start)
    return frozenset(ordered[-max(1, round(SHARE * len(ordered))) :])


def held_out_files(held: Collection[Place], places: Sequence[Place]) -> tuple[str, ...]:
    """The stems of the files that are held out whole, to remember."""
    trained = {stem_of(place.file) for place in places if place not in held}
    return tuple(sorted({stem_of(place.file) for place in held} - trained))


def _chosen(counts: Counter[str], before: Collection[str]) -> set[str]:
    """Of names with so many clips each those that are held out."""
    chosen = {name for name in counts if _hash(name) < SHARE or name in before}
    held = sum(counts[name] for name in chosen)
    if 0 < held <= counts.total() / 2:
        return chosen
    return {min(counts, key=lambda name: (counts[name], _hash(name)))}


def _hash(name: str) -> float:
    """A number from 0 to 1 that only the name decides."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12
