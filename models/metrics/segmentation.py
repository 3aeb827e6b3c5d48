"""Find the toy world's objects in the pixels of a clip, knowing only what colours its things and its lights have.

1. The sky at the top and the floor at the bottom of the picture tell which of the nine backdrops it is.
2. Each pixel goes to the nearest of the colours that a backdrop (lit or in shadow), a wall or an object (lit, in shade,
   or at its highlight) can have there: one look-up in a table of 32 x 32 x 32 colours per backdrop and horizontal band,
   for the haze at the horizon is as white as a white ball.
3. Connected pixels of one colour are a blob; specks, thin seams and highlights inside another blob are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..toyworld.backdrop import LIGHTS, backdrop, floor_points
from ..toyworld.world import COLOURS, FIELD, FLOORS, SKIES, WALL_COLOURS, Array, Camera

LEVELS = 32  # cells per channel of the colour tables
NAMES = (*COLOURS, *WALL_COLOURS)  # the classes, from 1; 0 is the backdrop
WHITE, GRAY = NAMES.index("white") + 1, NAMES.index("gray") + 1
BANDS = 6
NEUTRAL = ("white", "gray")
SHADOW_REACH = 9.0  # metres
LIGHTEST_GRAY = 112  # of a wall; a white object in shade is lighter
MARGIN = 6.0  # how different from every colour of the backdrop a neutral colour must be, to count as an object's
MIN_CORE = 0.0009  # smallest blob, as a part of the picture, counting only pixels surrounded by their own colour
MAX_CORE = 0.4  # a larger one is no object

Integers = NDArray[np.int64]
Classes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Blob:
    """One connected region of one colour in one frame. Sizes in pixels."""

    name: str
    frame: int
    area: float
    x: float
    y: float
    box: tuple[int, int, int, int]  # left, top, right, bottom
    mask: NDArray[np.bool_]  # inside the box

    def touches(self, height: int, width: int) -> bool:
        """Whether it may go on beyond the picture."""
        left, top, right, bottom = self.box
        return left == 0 or top == 0 or right == width or bottom == height


def setting(frames: NDArray[np.uint8]) -> tuple[str, str]:
    """Floor and sky of a clip (F, H, W, 3), from the colours of its lowest and highest rows."""
    height, width = frames.shape[1:3]
    band = max(1, height // 16)
    top = np.median(frames[:, :band].reshape(-1, 3), axis=0)
    bottom = frames[:, -band:].reshape(-1, 3).mean(axis=0)
    references = _edges(height / width)
    sky = min(SKIES, key=lambda s: float(np.abs(references["sandy", s][0] - top).sum()))
    return min(FLOORS, key=lambda f: float(np.abs(references[f, sky][1] - bottom).sum())), sky


@cache
def _edges(aspect: float) -> dict[tuple[str, str], tuple[Array, Array]]:
    """Mean colour of the top and the bottom of every backdrop."""
    result = {}
    for floor in FLOORS:
        for sky in SKIES:
            picture, _ = _backdrop_pixels(floor, sky, Camera(), aspect)
            result[floor, sky] = (picture[:3].mean(axis=(0, 1)), picture[-3:].mean(axis=(0, 1)))
    return result


def _backdrop_pixels(floor: str, sky: str, camera: Camera, aspect: float = 1.0) -> tuple[Array, Array]:
    """The backdrop (h, w, 3) in 0..255 as a camera at rest sees it, 48 pixels a side, and the floor's distance."""
    height, width = round(48 * max(1.0, aspect)), round(48 * max(1.0, 1 / aspect))
    pixel = 2 * FIELD / camera.distance / 48
    eye = np.array([0.0, camera.height, -camera.distance])
    forward = np.array(camera.target) - eye
    forward /= np.linalg.norm(forward)
    up = np.cross(forward, np.array([1.0, 0.0, 0.0]))
    x = (np.arange(width) + 0.5 - width / 2) * pixel
    y = (height / 2 - np.arange(height) - 0.5) * pixel
    rays = forward + x[None, :, None] * np.array([1.0, 0.0, 0.0]) + y[:, None, None] * up
    _, _, distance = floor_points(eye, rays)
    return np.asarray(255 * np.sqrt(np.clip(backdrop(floor, sky, eye, rays, pixel), 0, 1))), distance


def _opponent(rgb: Array) -> Array:
    """Colours (..., 3) in 0..255 as lightness and two opponent axes, weighted so that hue counts most."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([0.45 * (r + g + b) / 3, 0.9 * (r - g), 0.7 * ((r + g) / 2 - b)], axis=-1)


def _object_samples(name: str, sky: str) -> Array:
    """Colours (n, 3) that a body can show under a sky: all mixtures of sun, sky light and, but for walls, highlight."""
    light = LIGHTS[sky]
    sun, ambient = np.array(light.sun), np.array(light.ambient)
    albedo = np.square(np.array({**COLOURS, **WALL_COLOURS}[name]) / 255)
    colours = [
        albedo * (d * sun + a * ambient) + h * sun
        for d in np.linspace(0, 1, 6)
        for a in (0.45, 0.7, 1.0)
        for h in ((0.0, 0.05, 0.15) if name in COLOURS else (0.0,))
    ]
    return np.asarray(255 * np.sqrt(np.clip(np.stack(colours), 0, 1)))


@cache
def _table(floor: str, sky: str, band: int) -> Classes:
    """The class of each of 32^3 colours in front of one of the BANDS horizontal bands of this backdrop."""
    ground = _opponent(_ground_colours(floor, sky, band))
    best, classes = _nearest(ground), np.zeros(LEVELS**3, dtype=np.uint8)
    for name in NEUTRAL:
        seen = _opponent(_object_samples(name, sky))
        # a gray floor in full light looks like something white in shade: give such colours to the floor
        seen = seen[np.linalg.norm(seen[:, None] - ground[None], axis=-1).min(axis=1) > MARGIN]
        if len(seen):
            distance = _nearest(seen)
            classes = np.where(distance < best, NAMES.index(name) + 1, classes)
            best = np.minimum(distance, best)
    distance, colour = _colourful(sky)
    return np.asarray(np.where(distance < best, colour, classes), dtype=np.uint8)


@cache
def _colourful(sky: str) -> tuple[Array, Classes]:
    """The least distance of each of 32^3 colours from all objects and walls that are not NEUTRAL, and whose it is."""
    names = [name for name in NAMES if name not in NEUTRAL]
    distances = np.stack([_nearest(_opponent(_object_samples(name, sky))) for name in names])
    numbers = np.array([NAMES.index(name) + 1 for name in names], dtype=np.uint8)
    return distances.min(axis=0), numbers[distances.argmin(axis=0)]


def _nearest(points: Array) -> Array:
    """Squared distance of each cell's centre from the nearest of points (n, 3), less the centre's own square."""
    levels = (np.arange(LEVELS) + 0.5) * (256 / LEVELS)
    cells = _opponent(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3))
    few = points.astype(np.float32)
    offset = (few**2).sum(axis=1)
    parts = np.split(cells.astype(np.float32), 64)
    return np.concatenate([(offset - 2 * part @ few.T).min(axis=1) for part in parts])


@cache
def _ground_colours(floor: str, sky: str, band: int) -> Array:
    """Colours (n, 3) of floor and sky, lit and in shadow, around a band, for the cameras that the scenes use."""
    cameras = (Camera(), Camera(height=1.9, target=(0.0, 0.8, 0.0)), Camera(height=2.2, target=(0.0, 0.7, 0.0)))
    low, high = (band - 0.5) / BANDS, (band + 1.5) / BANDS
    colours = []
    for camera in cameras:
        view, distance = _backdrop_pixels(floor, sky, camera)
        rows = slice(max(0, int(low * len(view))), int(high * len(view)) + 1)
        colours.append(view[rows].reshape(-1, 3))
        # objects stand close to the camera, and so do their shadows
        near = view[rows][distance[rows] < SHADOW_REACH]
        colours += [near * np.sqrt(1 - s * LIGHTS[sky].shadow) for s in (0.35, 0.7, 1.0)]
    ground = np.concatenate(colours)
    return np.asarray(np.unique((ground / 8).round(), axis=0) * 8)


def classify(frames: NDArray[np.uint8]) -> Classes:
    """The class (F, H, W) of each pixel: 0 backdrop, else 1 + index in NAMES."""
    cells = frames.astype(np.int64) * LEVELS // 256
    index = (cells[..., 0] * LEVELS + cells[..., 1]) * LEVELS + cells[..., 2]
    floor, sky = setting(frames)
    edges = np.linspace(0, frames.shape[1], BANDS + 1).round().astype(int)
    bands = [_table(floor, sky, band)[index[:, edges[band] : edges[band + 1]]] for band in range(BANDS)]
    return np.concatenate(bands, axis=1)


def connected(classes: Classes) -> Integers:
    """Number the 4-connected regions of equal class in each frame (F, H, W); equal numbers are one region.

    Runs along rows and columns take the highest number in them, in turn, until nothing changes: a few sweeps for
    convex regions.
    """
    frames, height, width = classes.shape
    numbers: Integers = np.arange(classes.size).reshape(classes.shape)
    across = _runs(classes.reshape(-1), width)
    turned = np.ascontiguousarray(classes.transpose(0, 2, 1))
    down = _runs(turned.reshape(-1), height)
    while True:
        before = numbers
        numbers = _spread(numbers.reshape(-1), across).reshape(frames, height, width)
        columns = np.ascontiguousarray(numbers.transpose(0, 2, 1)).reshape(-1)
        numbers = np.ascontiguousarray(_spread(columns, down).reshape(frames, width, height).transpose(0, 2, 1))
        if np.array_equal(before, numbers):
            return numbers


def _runs(values: Classes, length: int) -> Integers:
    """Where the runs of equal values begin; a run ends at the end of its line."""
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    begins[::length] = True
    return np.flatnonzero(begins)


def _spread(numbers: Integers, begins: Integers) -> Integers:
    highest = np.maximum.reduceat(numbers, begins)
    return np.repeat(highest, np.diff(begins, append=len(numbers)))


def find_blobs(frames: NDArray[np.uint8]) -> list[list[Blob]]:
    """The blobs of each frame of a clip (F, H, W, 3), largest first."""
    labels = classify(frames)
    height, width = labels.shape[1:]
    # the shaded side of a white object has the colour of a gray wall: one region, named later
    classes = np.where(labels == GRAY, WHITE, labels)
    core = np.zeros(classes.shape, dtype=bool)
    centre = classes[:, 1:-1, 1:-1]
    core[:, 1:-1, 1:-1] = centre > 0
    for dy in range(3):
        for dx in range(3):
            core[:, 1:-1, 1:-1] &= classes[:, dy : height - 2 + dy, dx : width - 2 + dx] == centre
    numbers = connected(classes)
    return [_frame_blobs(f, frames[f], labels[f], core[f], numbers[f]) for f in range(len(frames))]


def _frame_blobs(
    index: int, frame: NDArray[np.uint8], labels: Classes, core: NDArray[np.bool_], numbers: Integers
) -> list[Blob]:
    """The blobs of one frame: named, merged where a white one fell apart, without those inside another."""
    names, counts = np.unique(numbers[core], return_counts=True)
    large = (counts >= MIN_CORE * core.size) & (counts <= MAX_CORE * core.size)
    masks = [numbers == n for n in names[large]]
    found = [_blob(mask, _name(mask, frame, labels), index) for mask in masks]
    white = [blob for blob in found if blob.name == "white"]
    for i, a in enumerate(white):
        for b in white[:i]:
            if a in found and b in found and close(a, b, max(2, frame.shape[0] // 24)):
                # its middle had the colour of the floor
                both = np.zeros(core.shape, dtype=bool)
                for part in (a, b):
                    left, top, right, bottom = part.box
                    both[top:bottom, left:right] |= part.mask
                found = [blob for blob in found if blob not in (a, b)] + [_blob(both, "white", index)]
    found.sort(key=lambda blob: -blob.area)
    return [b for i, b in enumerate(found) if not any(_inside(b, other) for other in found[:i])]


def _name(mask: NDArray[np.bool_], frame: NDArray[np.uint8], labels: Classes) -> str:
    name = NAMES[int(np.bincount(labels[mask]).argmax()) - 1]
    if name in NEUTRAL:
        return "white" if np.median(frame[mask]) > LIGHTEST_GRAY else "gray"
    return name


def _blob(mask: NDArray[np.bool_], name: str, frame: int) -> Blob:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    # all shapes are convex: whatever lies between two of its pixels in a row or a column belongs to it
    part = _filled(mask[top:bottom, left:right])
    ys, xs = np.nonzero(part)
    x, y = left + float(xs.mean()) + 0.5, top + float(ys.mean()) + 0.5
    return Blob(name, frame, float(len(xs)), x, y, (left, top, right, bottom), part)


def close(a: Blob, b: Blob, margin: int) -> bool:
    """Whether the boxes of two blobs come closer than this many pixels."""
    (l1, t1, r1, b1), (l2, t2, r2, b2) = a.box, b.box
    return l1 - margin < r2 and l2 - margin < r1 and t1 - margin < b2 and t2 - margin < b1


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    def between(axis: int) -> NDArray[np.bool_]:
        forth = np.logical_or.accumulate(mask, axis=axis)
        back = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
        return np.asarray(forth & back)

    return np.asarray(between(0) | between(1))


def _inside(blob: Blob, other: Blob) -> bool:
    """Whether a blob is a highlight or a shaded patch of another."""
    (a, b, c, d), (left, top, right, bottom) = blob.box, other.box
    return blob.area < 0.35 * other.area and a >= left and b >= top and c <= right and d <= bottom
