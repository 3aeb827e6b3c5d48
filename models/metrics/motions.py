"""Recognise the toy world's motions from objects' tracks, their visibility and the change of the backdrop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..toyworld.world import Array
from .segmentation import Blob

CALM = 2.0  # a backdrop that changes less has a camera at rest in front; panning changes it by 3 and more
TURNING = 4.0  # a surface that changes more turns


@dataclass(frozen=True)
class Track:
    """One object over time, in units of the picture's short side; NaN where it is not seen."""

    x: Array  # (F,)
    y: Array  # (F,) downwards
    area: Array  # (F,) 0 where not seen
    width: Array  # (F,)
    blobs: tuple[Blob | None, ...]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """In which frames the object was found."""
        return np.asarray(self.area > 0)


@dataclass(frozen=True)
class Evidence:
    """All that the judgement of motion rests on."""

    tracks: tuple[Track, ...]
    backdrop_change: float  # mean change of the backdrop over four frames, in levels of 255
    surface_change: float  # the same inside the first object


def track(blobs: list[list[Blob]], colour: str, size: tuple[int, ...]) -> Track:
    """Follow the largest blob of a colour."""
    short = min(size)
    chosen = [max((b for b in frame if b.name == colour), key=lambda b: b.area, default=None) for frame in blobs]
    nan = float("nan")
    rows = [
        (b.x / short, b.y / short, b.area / short**2, (b.box[2] - b.box[0]) / short) if b else (nan, nan, 0.0, nan)
        for b in chosen
    ]
    x, y, area, width = np.array(rows).T
    return Track(x, y, area, width, tuple(chosen))


def evidence(frames: NDArray[np.uint8], blobs: list[list[Blob]], tracks: list[Track]) -> Evidence:
    """Look at the backdrop away from all objects and their shadows, and at the first object's surface."""
    height, width = frames.shape[1:3]
    margin = max(1, height // 48)
    covered = np.zeros(frames.shape[:3], dtype=bool)
    for f, frame in enumerate(blobs):
        for blob in frame:
            left, top, right, bottom = blob.box
            # a shadow lies to the right of its object and on the floor below it
            reach = right - left
            covered[f, max(0, top - margin) : bottom + margin + reach // 3, max(0, left - margin) : right + reach] = (
                True
            )
    smooth = _smooth(frames.astype(np.float32), max(1, min(height, width) // 48))
    step = min(4, len(frames) - 1)
    free = ~(covered[step:] | covered[:-step])
    floor = slice(height // 2, None)
    backdrop = np.abs(smooth[step:] - smooth[:-step]).mean(axis=-1)[:, floor][free[:, floor]]
    # four frames may be a quarter turn, after which a cube looks the same
    surface = max(_surface_change(smooth, tracks[0], s) for s in (min(2, step), step))
    return Evidence(tuple(tracks), _mean(backdrop), surface)


def _surface_change(frames: Array, actor: Track, step: int) -> float:
    """Mean change of an object's own pixels over `step` frames in which it stays where it is."""
    limit = 0.06 * min(frames.shape[1:3])
    inside = []
    for f in range(len(frames) - step):
        a, b = actor.blobs[f], actor.blobs[f + step]
        if a and b and abs(a.x - b.x) + abs(a.y - b.y) < limit:
            left, top = max(a.box[0], b.box[0]), max(a.box[1], b.box[1])
            right, bottom = min(a.box[2], b.box[2]), min(a.box[3], b.box[3])
            inset = max(1, (right - left) // 8)
            part = (slice(top + inset, bottom - inset), slice(left + inset, right - inset))
            inside.append(np.abs(frames[f + step][part] - frames[f][part]).ravel())
    return _mean(np.concatenate(inside)) if inside else 0.0


def _smooth(frames: Array, radius: int) -> Array:
    """Box means of (2 radius + 1)^2 pixels, so that grain is not taken for motion."""
    for axis in (1, 2):
        widths = [(radius + 1, radius) if a == axis else (0, 0) for a in range(4)]
        total = np.cumsum(np.pad(frames, widths, mode="edge"), axis=axis, dtype=np.float32)
        size, span = frames.shape[axis], 2 * radius + 1
        frames = (np.take(total, range(span, span + size), axis) - np.take(total, range(size), axis)) / span
    return frames


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _travel(values: Array) -> float:
    """From the mean of the first to that of the last two sightings."""
    seen = values[np.isfinite(values)]
    return float(seen[-2:].mean() - seen[:2].mean()) if len(seen) >= 4 else 0.0


def _range(values: Array) -> float:
    seen = values[np.isfinite(values)]
    return float(np.percentile(seen, 95) - np.percentile(seen, 5)) if len(seen) else 0.0


def _calm(evidence: Evidence) -> bool:
    """Whether the camera stands still."""
    return evidence.backdrop_change < CALM


def _bounce(e: Evidence, way: float) -> bool:
    actor = e.tracks[0]
    sideways = _travel(actor.x) * way > 0.25 if way else abs(_travel(actor.x)) < 0.15
    return _calm(e) and sideways and _rebound(actor.y) > 0.03


def _rebound(y: Array) -> float:
    """The largest rise after a lower point that itself follows a higher one or starts the clip."""
    seen = y[np.isfinite(y)]
    return float(np.max(np.maximum.accumulate(seen) - seen)) if len(seen) else 0.0


def _fall(e: Evidence, _way: float) -> bool:
    actor = e.tracks[0]
    end = actor.y[np.isfinite(actor.y)][-4:]
    rests = float(np.ptp(end)) < 0.04 if len(end) else False
    return _calm(e) and _travel(actor.y) > 0.15 and abs(_travel(actor.x)) < 0.12 and rests


def _roll(e: Evidence, way: float) -> bool:
    actor = e.tracks[0]
    in_view = float(actor.seen.mean()) > 0.8
    return _calm(e) and in_view and _travel(actor.x) * way > 0.3 and _range(actor.y) < 0.09


def _collide(e: Evidence, _way: float) -> bool:
    gap = e.tracks[1].x - e.tracks[0].x
    seen = np.isfinite(gap)
    if not _calm(e) or seen.sum() < 6 or max(_range(t.y) for t in e.tracks[:2]) > 0.06:
        return False
    distance = np.abs(gap[seen])
    nearest = int(distance.argmin())
    same_side = bool(np.sign(gap[seen][0]) == np.sign(gap[seen][-1]))
    return same_side and distance[0] - distance[nearest] > 0.12 and distance[-1] - distance[nearest] > 0.06


def _hide(e: Evidence, way: float) -> bool:
    actor = e.tracks[0]
    whole = np.percentile(actor.area[actor.seen], 80)
    hidden = np.flatnonzero(actor.area < 0.15 * whole)
    seen = np.flatnonzero(actor.area > 0.5 * whole)
    between = hidden[(hidden > seen.min()) & (hidden < seen.max())]
    return _calm(e) and len(between) >= 2 and _travel(actor.x) * way > 0.3


def _orbit(e: Evidence, _way: float) -> bool:
    if _calm(e):
        return False
    drift = [_travel(t.x) for t in e.tracks]
    if len(e.tracks) == 1:
        return abs(drift[0]) < 0.2
    # objects at different places move against each other; in a pan they all move the same way
    gaps = [a.x - b.x for i, a in enumerate(e.tracks) for b in e.tracks[:i]]
    return max(_range(gap) for gap in gaps) > 0.12


def _pan(e: Evidence, way: float) -> bool:
    drift = np.array([_travel(t.x) for t in e.tracks]) * -way
    return not _calm(e) and bool((drift > 0.12).all())


def _circle(e: Evidence, _way: float) -> bool:
    moon, centre = e.tracks[:2]
    middle = np.nanmedian(centre.x)
    aside = moon.x[np.isfinite(moon.x)] - middle
    around = aside.max() > 0.1 and aside.min() < -0.1 and _range(moon.y) > 0.04
    returns = abs(_travel(moon.x)) < 0.8 * _range(moon.x)
    return _calm(e) and around and returns and _range(centre.x) < 0.1


def _still(e: Evidence, _way: float) -> bool:
    return _calm(e) and all(_range(t.x) < 0.06 and _range(t.y) < 0.06 for t in e.tracks) and e.surface_change < TURNING


def _spin(e: Evidence, _way: float) -> bool:
    actor = e.tracks[0]
    return _calm(e) and _range(actor.x) < 0.08 and _range(actor.y) < 0.08 and e.surface_change > TURNING


MOTIONS: dict[str, Callable[[Evidence, float], bool]] = {
    "bounce": _bounce,
    "fall": _fall,
    "roll": _roll,
    "collide": _collide,
    "hide": _hide,
    "orbit": _orbit,
    "pan": _pan,
    "circle": _circle,
    "still": _still,
    "spin": _spin,
}
