"""Does a video model simulate its world? Measured on continuations of true clips whose scene is known.

A case is a rendered clip of which the first `known` frames are given; measures look only at what comes after them.
permanence   an object that goes behind a wall is gone while it should be and comes out where it should
camera       under a moving camera things at rest stay one rigid scene: tracks, triangulation, the floor's tiles
physics      fall, bounce, collision: how far objects are from where mechanics has them, also outside of training
coherence    over a video three times as long, objects stay what they are and keep moving as they did

Distances are percent of the picture's short side; an object that is missing or farther off counts as MISSING. For each
measure the true clip gives the ceiling, and a frozen and a shuffled continuation give the floors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..toyworld import Clip, Scene, State
from ..toyworld.world import CAMERA_DISTANCE, FIELD, Array
from .fidelity import count_objects
from .motions import Track, track
from .segmentation import Blob, find_blobs
from .silhouettes import shape_of

Frames = NDArray[np.uint8]
MISSING = 30.0  # percent
SEEN = 0.9  # an object counts as whole when so much of its outline is visible
MOVES = 2.0  # percent; what moves less stands still
FLOOR_STEP = 4  # frames; the floor moves too little from one to the next
ROOM = np.array([[-4.0, 0.0, -4.0], [4.0, 3.0, 4.0]])  # metres; things stand inside


@dataclass(frozen=True)
class Case:
    """A true clip to be continued from its first `known` frames."""

    probe: str
    scene: Scene
    truth: Clip
    known: int
    prompt: str = ""

    def places(self) -> Array:
        """Where the middle of each coloured object's outline is in the picture, (F, K, 2) in percent of the short side.

        A cone's is that of a triangle, a third of its height from the ground.
        """
        middle = self.truth.state.positions[:, self._objects()].copy()
        middle[..., 1] -= [body.half_extents[1] / 3 if body.shape == "cone" else 0.0 for body in self.scene.objects]
        return project(middle, self.truth.state, self.truth.frames.shape[1:3])

    def plain(self) -> NDArray[np.bool_]:
        """In which frames after the known ones each object is whole and in view, (F, K)."""
        height, width = self.truth.frames.shape[1:3]
        boxes = self.truth.boxes[:, self._objects()]
        inside = (boxes[..., :2] > 0).all(-1) & (boxes[..., 2] < width) & (boxes[..., 3] < height)
        return np.asarray(inside & (self.truth.visible[:, self._objects()] > SEEN) & self.new()[:, None])

    def new(self) -> NDArray[np.bool_]:
        """Which frames (F,) are not given."""
        return np.arange(len(self.truth.frames)) >= self.known

    def hidden(self) -> NDArray[np.bool_]:
        """In which frames (F,) after the known ones the first object is behind something."""
        box = self.truth.boxes[:, self._objects()[0]]
        return np.asarray((self.truth.visible[:, self._objects()[0]] < 0.03) & (box[:, 2] > box[:, 0]) & self.new())

    def _objects(self) -> list[int]:
        return [i for i, body in enumerate(self.scene.bodies) if body.shape != "wall"]


def project(points: Array, state: State, size: tuple[int, ...]) -> Array:
    """Where points (F, K, 3) appear to the cameras of a State: (F, K, 2) x, y in percent of the short side."""
    height, width = size
    seen = np.einsum("fij,fkj->fki", state.views, points - state.eyes[:, None])
    scale = 50 * CAMERA_DISTANCE / FIELD / np.maximum(seen[..., 2:], 0.2)
    return np.asarray(seen[..., :2] * scale * np.array([1, -1]) + 50 * np.array([width, height]) / min(height, width))


def tracks(frames: Frames, scene: Scene) -> tuple[list[Track], list[list[Blob]]]:
    """Each object's track, and all blobs."""
    blobs = find_blobs(frames)
    return [track(blobs, body.colour, frames.shape[1:3]) for body in scene.objects], blobs


def _found(followed: list[Track]) -> Array:
    """Places (F, K, 2) in percent, NaN where an object was not found."""
    return 100 * np.stack([np.stack([t.x, t.y], axis=-1) for t in followed], axis=1)


def _mean_error(found: Array, wanted: Array, where: NDArray[np.bool_]) -> float:
    distance = np.linalg.norm(found - wanted, axis=-1)
    return float(np.minimum(np.nan_to_num(distance, nan=MISSING), MISSING)[where].mean())


def track_error(frames: Frames, case: Case) -> float:
    """Mean distance of the objects that move in the picture from where they should be, in percent of the short side."""
    places = case.places()
    where = case.plain() & (np.ptp(places, axis=0).max(axis=-1) > MOVES)
    return _mean_error(_found(tracks(frames, case.scene)[0]), places, where)


def epipolar_error(frames: Frames, case: Case) -> float:
    """How far tracks are from those of points at rest, wherever these may be, seen by the true cameras; in percent.

    Each track is triangulated over all frames (linear least squares, Hartley & Zisserman section 12.2) within the room
    and projected again: the epipolar constraint of all views at once.
    """
    found, state = _found(tracks(frames, case.scene)[0]), case.truth.state
    height, width = frames.shape[1:3]
    centre = 50 * np.array([width, height]) / min(height, width)
    slopes = (found - centre) * np.array([1, -1]) / (50 * CAMERA_DISTANCE / FIELD)  # (F, K, 2) of the ray
    wanted = np.full_like(found, np.nan)
    for k in range(found.shape[1]):
        seen = np.isfinite(found[:, k, 0])
        if seen.sum() >= 3:
            # (right - slope * forward) . (point - eye) = 0, the same with up
            rows = state.views[seen, :2] - slopes[seen, k, :, None] * state.views[seen, 2:]
            offsets = np.einsum("fij,fj->fi", rows, state.eyes[seen])
            point = np.linalg.lstsq(rows.reshape(-1, 3), offsets.ravel(), rcond=None)[0]
            inside = np.clip(point, ROOM[0], ROOM[1])
            wanted[:, k] = project(np.broadcast_to(inside, (len(found), 1, 3)), state, (height, width))[:, 0]
    return _mean_error(found, wanted, case.plain())


def floor_agreement(frames: Frames, case: Case) -> float:
    """How well the floor of each new frame agrees with an earlier one, moved as the camera's path moves the plane.

    Correlation (-1 to 1) over the floor's nearer half, things and shadows left out.
    """
    state, (height, width) = case.truth.state, frames.shape[1:3]
    grey = frames.astype(np.float32).mean(axis=-1)
    things = _covered(find_blobs(frames), frames.shape[:3])
    values = []
    rows, columns = np.mgrid[int(0.62 * height) : height, 0:width]
    for f in range(max(FLOOR_STEP, case.known), len(frames)):
        x, y = _seen_before(state, f, rows + 0.5, columns + 0.5, (height, width))
        left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
        inside = (left >= 0) & (left < width - 1) & (top >= 0) & (top < height - 1) & ~things[f, rows, columns]
        r, c, left, top = rows[inside], columns[inside], left[inside], top[inside]
        u, v = x[inside] - 0.5 - left, y[inside] - 0.5 - top
        before = grey[f - FLOOR_STEP]
        moved = (before[top, left] * (1 - u) + before[top, left + 1] * u) * (1 - v)
        moved += (before[top + 1, left] * (1 - u) + before[top + 1, left + 1] * u) * v
        free = ~things[f - FLOOR_STEP, top, left]
        values.append(_correlation(moved[free], grey[f, r, c][free]))
    return float(np.mean(values))


def _seen_before(state: State, f: int, rows: Array, columns: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Where in frame f - FLOOR_STEP the floor points are that frame f shows at these pixel positions."""
    height, width = size
    pixel = 2 * FIELD / CAMERA_DISTANCE / min(size)
    right, up, forward = state.views[f]
    across, above = (columns - width / 2) * pixel, (height / 2 - rows) * pixel
    rays = forward + across[..., None] * right + above[..., None] * up
    points = state.eyes[f] - rays * (state.eyes[f, 1] / np.minimum(rays[..., 1:2], -1e-3))
    seen = (points - state.eyes[f - FLOOR_STEP]) @ state.views[f - FLOOR_STEP].T
    depth = np.maximum(seen[..., 2], 0.2)
    return width / 2 + seen[..., 0] / depth / pixel, height / 2 - seen[..., 1] / depth / pixel


def _covered(blobs: list[list[Blob]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where things and, to their right, their shadows are."""
    covered = np.zeros(shape, dtype=bool)
    for f, frame in enumerate(blobs):
        for blob in frame:
            left, top, right, bottom = blob.box
            covered[f, max(0, top - 2) : bottom + (bottom - top) // 3, max(0, left - 2) : right + right - left] = True
    return covered


def _correlation(a: Array, b: Array) -> float:
    if a.size < 16 or a.std() < 1e-3 or b.std() < 1e-3:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def permanence(frames: Frames, case: Case) -> float:
    """Share of the hidden frames in which the object is gone, times share of those after in which it is back in place.

    In place is within a tenth of the picture, and at least half as large as before.
    """
    actor = tracks(frames, case.scene)[0][0]
    hidden = case.hidden()
    after = case.plain()[:, 0] & (np.arange(len(frames)) > np.flatnonzero(hidden).max(initial=-1))
    if not hidden.any() or not after.any():
        raise ValueError("in this clip nothing goes behind something and comes out again: choose another one")
    before = actor.area[: case.known]
    whole = float(np.median(before[before > 0])) if (before > 0).any() else np.inf
    distance = np.linalg.norm(_found([actor])[:, 0] - case.places()[:, 0], axis=-1)
    back = (distance < 10) & (actor.area > 0.5 * whole)
    return float((actor.area[hidden] < 0.15 * whole).mean() * back[after].mean())


def coherence(frames: Frames, case: Case) -> float:
    """How much the last third still shows the same objects, moving: right colours, shapes and number, natural pace.

    Share of the frames with exactly the right objects, times share of the objects of the right shape, times how near
    the length of the objects' paths is to the true one (the smaller over the larger).
    """
    first = len(frames) * 2 // 3
    end = frames[first:]
    followed, blobs = tracks(end, case.scene)
    plain, wanted = case.plain()[first:], {body.colour for body in case.scene.objects}
    counts = [count_objects([frame]) for frame in blobs]
    right = [
        set(count) <= wanted
        and all(count.get(b.colour, 0) == 1 for b, there in zip(case.scene.objects, row, strict=True) if there)
        for count, row in zip(counts, plain, strict=True)
    ]
    size = frames.shape[1:3]
    shapes = [shape_of(t.blobs, blobs, size) == b.shape for t, b in zip(followed, case.scene.objects, strict=True)]
    pair = plain[1:] & plain[:-1]
    paths = [
        np.linalg.norm(np.diff(places, axis=0), axis=-1)[pair] for places in (_found(followed), case.places()[first:])
    ]
    one, other = (float(np.nansum(path)) for path in paths)
    pace = min(one, other) / max(one, other, 1e-6)
    return float(np.mean(right)) * float(np.mean(shapes)) * pace


def frozen(frames: Frames, known: int) -> Frames:
    """The known frames, then the last of them for ever."""
    return np.concatenate([frames[:known], np.repeat(frames[known - 1 : known], len(frames) - known, axis=0)])


def shuffled(frames: Frames, known: int, seed: int = 0) -> Frames:
    """The known frames, then the others in random order."""
    order = np.random.default_rng(seed).permutation(len(frames) - known)
    return np.concatenate([frames[:known], frames[known:][order]])


@dataclass(frozen=True)
class Measure:
    """A number about a continuation: its unit, and whether more is better."""

    of: Callable[[Frames, Case], float]
    unit: str
    more_is_better: bool


MEASURES: dict[str, Measure] = {
    "permanence": Measure(permanence, "share", more_is_better=True),
    "track error": Measure(track_error, "% of picture", more_is_better=False),
    "epipolar error": Measure(epipolar_error, "% of picture", more_is_better=False),
    "floor agreement": Measure(floor_agreement, "correlation", more_is_better=True),
    "coherence": Measure(coherence, "share", more_is_better=True),
}
