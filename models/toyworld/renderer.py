"""Draw a scene by ray casting: perspective camera, sun and sky light, soft shadows, occlusion, anti-aliasing.

Each body is cast only inside the smallest box of pixels that holds it, for all frames at once; the bodies are then laid
over the backdrop from far to near, which is exact because they are convex and never intersect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from einops import reduce
from numpy.typing import NDArray

from ..geometry import FPS
from .backdrop import LIGHTS, SUN, backdrop, floor_points, shadow
from .physics import State, simulate
from .shapes import Triple, cast
from .world import CAMERA_DISTANCE, FIELD, Array, Body, Scene

SAMPLES = 2  # rays per pixel and direction


@dataclass(frozen=True)
class Clip:
    """Frames with the truth about them; K bodies, walls included, in the order of scene.bodies."""

    frames: NDArray[np.uint8]  # (F, H, W, 3) sRGB
    state: State
    boxes: Array  # (F, K, 4) left, top, right, bottom pixels inside the picture, hidden parts too; 0 when outside
    visible: Array  # (F, K) part of the body's silhouette that is seen, 0 to 1
    masks: NDArray[np.uint8] | None = None  # (F, K, H, W) how much of each pixel a body covers, 255 = all; if asked for


@dataclass(frozen=True)
class _View:
    """The cameras of all frames and the size of the picture."""

    eyes: Array  # (F, 3)
    axes: Array  # (F, 3, 3) right, up, forward
    height: int
    width: int

    @property
    def pixel(self) -> float:
        """Size of a pixel on the plane at distance 1."""
        return 2 * FIELD / CAMERA_DISTANCE / min(self.height, self.width)

    def columns(self, x: Array) -> Array:
        """Pixel columns as rightward components of rays."""
        return np.asarray((x - np.float32(self.width / 2)) * np.float32(self.pixel), dtype=np.float32)

    def rows(self, y: Array) -> Array:
        """Pixel rows as upward components of rays."""
        return np.asarray((np.float32(self.height / 2) - y) * np.float32(self.pixel), dtype=np.float32)

    def rays(self, x: Array, y: Array) -> Array:
        """Rays (F, h, w, 3) through pixel positions x (F, w), y (F, h); their forward component is 1."""
        right, up, forward = (self.axes[:, i, None, None, :] for i in range(3))
        return np.asarray(forward + self.columns(x)[:, None, :, None] * right + self.rows(y)[:, :, None, None] * up)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixel positions x, y (F, n) of points (F, n, 3) in front of the camera."""
        seen = np.einsum("fij,fnj->fni", self.axes, points - self.eyes[:, None])
        depth = np.maximum(seen[..., 2], 0.2)
        return self.width / 2 + seen[..., 0] / depth / self.pixel, self.height / 2 - seen[..., 1] / depth / self.pixel


@dataclass(frozen=True)
class _Layer:
    """One body in its boxes: premultiplied linear colour and cover, with the pixel position of each box."""

    colour: Array  # (F, h, w, 3)
    cover: Array  # (F, h, w)
    left: NDArray[np.int64]  # (F,)
    top: NDArray[np.int64]  # (F,)


def render(scene: Scene, *, num_frames: int, height: int, width: int, fps: float = FPS, masks: bool = False) -> Clip:
    """Simulate the scene and draw it. masks: also say where each body is seen."""
    if height < 16 or width < 16:
        raise ValueError(f"a picture of {width} x {height} pixels is too small: use at least 16 x 16")
    state = simulate(scene, num_frames, fps)
    view = _View(state.eyes.astype(np.float32), state.views.astype(np.float32), height, width)
    frames = _ground(scene, state, view)  # (F, H, W, 3)
    layers = [_layer(scene, k, state, view) for k in range(len(scene.bodies))]
    seen = np.zeros((num_frames, len(layers), height, width), dtype=np.uint8) if masks else None
    visible = _compose(frames, layers, _distances(state), seen)
    pixels = np.sqrt(np.clip(frames, 0, 1)) * np.float32(255) + np.float32(0.5)
    boxes = np.stack([_extents(layer, height, width) for layer in layers], axis=1)
    return Clip(pixels.astype(np.uint8), state, boxes, visible, seen)


def _distances(state: State) -> Array:
    """Depth of each body's centre along the camera's axis, (F, K)."""
    offset = state.positions - state.eyes[:, None]
    return np.asarray(np.einsum("fki,fi->fk", offset, state.views[:, 2]), dtype=np.float32)


def _ground(scene: Scene, state: State, view: _View) -> Array:
    """Backdrop and shadows, (F, H, W, 3) linear."""
    frames = len(view.eyes)
    count = 1 if scene.camera.is_static else frames
    still = replace(view, eyes=view.eyes[:count], axes=view.axes[:count])
    x = np.broadcast_to(np.arange(view.width, dtype=np.float32) + 0.5, (count, view.width))
    y = np.broadcast_to(np.arange(view.height, dtype=np.float32) + 0.5, (count, view.height))
    picture = backdrop(scene.floor, scene.sky, still.eyes[:, None, None], still.rays(x, y), view.pixel)
    if count != frames:
        picture = np.repeat(picture, frames, axis=0)
    for k, body in enumerate(scene.bodies):
        _shade(picture, body, k, state, view, LIGHTS[scene.sky].shadow)
    return picture


def _shade(picture: Array, body: Body, k: int, state: State, view: _View, strength: float) -> None:
    """Darken the floor by a body's shadow, in place, inside the pixels that it can reach."""
    position = state.positions[:, k].astype(np.float32)
    yaw = np.arctan2(state.rotations[:, k, 0, 2], state.rotations[:, k, 0, 0])
    reach = 1.5 * max(body.half_extents) + 0.2 + 0.14 * position[:, 1]
    foot = position - (SUN / SUN[1]).astype(np.float32) * position[:, 1:2]
    signs = np.array([[-1, 0, -1], [-1, 0, 1], [1, 0, -1], [1, 0, 1]], dtype=np.float32)
    corners = foot[:, None] + signs * reach[:, None, None]  # (F, 4, 3)
    x, y = view.project(corners.astype(np.float32))
    left, top, w, h = _window(x, y, view)
    if w <= 0 or h <= 0:
        return
    columns = left[:, None] + np.arange(w)
    rows = top[:, None] + np.arange(h)
    rays = view.rays(columns.astype(np.float32) + 0.5, rows.astype(np.float32) + 0.5)
    fx, fz, _ = floor_points(view.eyes[:, None, None], rays)
    dark = shadow(body, position, yaw.astype(np.float32), fx, fz) * (rays[..., 1] < 0)
    keep = (1 - np.float32(strength) * dark)[..., None]
    for f in range(len(position)):
        picture[f, top[f] : top[f] + h, left[f] : left[f] + w] *= keep[f]


def _window(x: Array, y: Array, view: _View) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Boxes of one size inside the picture, around points (F, n): left (F,), top (F,), width, height."""
    low_x, high_x = np.clip(x.min(1), 0, view.width), np.clip(x.max(1), 0, view.width)
    low_y, high_y = np.clip(y.min(1), 0, view.height), np.clip(y.max(1), 0, view.height)
    w = min(int(np.ceil((high_x - low_x).max())) + 2, view.width)
    h = min(int(np.ceil((high_y - low_y).max())) + 2, view.height)
    if (high_x - low_x).max() <= 0 or (high_y - low_y).max() <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), 0, 0
    left = np.clip(np.floor(low_x).astype(np.int64) - 1, 0, view.width - w)
    top = np.clip(np.floor(low_y).astype(np.int64) - 1, 0, view.height - h)
    return left, top, w, h


def _layer(scene: Scene, k: int, state: State, view: _View) -> _Layer:
    """Body k in all frames; one drawing serves them all when nothing moves."""
    body, frames = scene.bodies[k], len(view.eyes)
    if body.motion != "rest" or body.spin or not scene.camera.is_static:
        return _draw(body, k, state, view, scene.sky)
    first = State(state.positions[:1], state.velocities[:1], state.rotations[:1], state.eyes[:1], state.views[:1])
    layer = _draw(body, k, first, replace(view, eyes=view.eyes[:1], axes=view.axes[:1]), scene.sky)
    colour = np.broadcast_to(layer.colour, (frames, *layer.colour.shape[1:]))
    cover = np.broadcast_to(layer.cover, (frames, *layer.cover.shape[1:]))
    return _Layer(colour, cover, np.repeat(layer.left, frames), np.repeat(layer.top, frames))


def _draw(body: Body, k: int, state: State, view: _View, sky: str) -> _Layer:
    """Cast and shade one body in all frames. The boxes may reach beyond the picture."""
    half = np.array(body.half_extents)
    signs = np.array([[sx, sy, sz] for sx in (-1, 1) for sy in (-1, 1) for sz in (-1, 1)])
    turn = state.rotations[:, k] if body.shape != "ball" else np.broadcast_to(np.eye(3), state.rotations[:, k].shape)
    corners = state.positions[:, k, None] + np.einsum("fij,nj->fni", turn, signs * half)
    x, y = view.project(corners.astype(np.float32))
    w, h = (int(np.ceil((v.max(1) - v.min(1)).max())) + 3 for v in (x, y))
    left, top = (np.floor(v.min(1)).astype(np.int64) - 1 for v in (x, y))
    step = (np.arange(SAMPLES) + 0.5) / SAMPLES
    columns = (left[:, None] + (np.arange(w)[:, None] + step).ravel()).astype(np.float32)  # (F, w*S)
    rows = (top[:, None] + (np.arange(h)[:, None] + step).ravel()).astype(np.float32)  # (F, h*S)
    # rays in the body's frame are sums of a column and a row term
    axes = np.einsum("fij,faj->fai", turn.transpose(0, 2, 1), state.views).astype(np.float32)
    base = axes[:, 2, None, :] + view.rows(rows)[..., None] * axes[:, 1, None, :]  # (F, h*S, 3)
    across = view.columns(columns)[..., None] * axes[:, 0, None, :]  # (F, w*S, 3)
    direction = tuple(base[:, :, None, i] + across[:, None, :, i] for i in range(3))
    origin = np.einsum("fji,fj->fi", turn, state.eyes - state.positions[:, k]).astype(np.float32)
    start = tuple(origin[:, i, None, None] for i in range(3))
    sun = np.einsum("fji,j->fi", turn, SUN).astype(np.float32)
    ups = turn[:, 1].astype(np.float32)
    colour, hit = _surface(body, _triple(start), _triple(direction), (sun, ups, state.positions[:, k, 1]), sky)
    cover = reduce(hit.astype(np.float32), "f (h a) (w b) -> f h w", "mean", a=SAMPLES, b=SAMPLES)
    mixed = reduce(colour, "f (h a) (w b) c -> f h w c", "mean", a=SAMPLES, b=SAMPLES)
    return _Layer(mixed, cover, left, top)


def _triple(values: tuple[Array, ...]) -> Triple:
    return values[0], values[1], values[2]


def _surface(
    body: Body, start: Triple, direction: Triple, setting: tuple[Array, Array, Array], sky: str
) -> tuple[Array, NDArray[np.bool_]]:
    """Colour (F, h, w, 3), zero where nothing is hit, and the hits: Lambert, Blinn-Phong, light from sky and floor."""
    sun, ups, height = setting
    light = LIGHTS[sky]
    t, n = cast(body.shape, body.half_extents, start, direction)
    hit = np.isfinite(t)
    n = _triple(tuple(np.where(hit, part, np.float32(0)) for part in n))

    def along(v: Array) -> Array:
        return np.asarray(n[0] * v[:, 0, None, None] + n[1] * v[:, 1, None, None] + n[2] * v[:, 2, None, None])

    diffuse, upward = np.maximum(along(sun), 0), along(ups)
    norm = 1 / np.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    facing = -(n[0] * direction[0] + n[1] * direction[1] + n[2] * direction[2]) * norm
    # Blinn-Phong needs the half vector between sun and viewer
    halfway = [sun[:, i, None, None] - direction[i] * norm for i in range(3)]
    length = 1 / np.sqrt(halfway[0] ** 2 + halfway[1] ** 2 + halfway[2] ** 2)
    gloss = np.maximum((n[0] * halfway[0] + n[1] * halfway[1] + n[2] * halfway[2]) * length, 0)
    gloss = gloss**2
    gloss = gloss**2
    gloss = gloss**2
    shine = np.float32(0.0 if body.shape == "wall" else 0.4)
    spark = shine * gloss**5 + np.float32(0.06) * (1 - np.clip(facing, 0, 1)) ** 4
    ambient = np.float32(0.72) + np.float32(0.28) * upward
    # the floor keeps light from the lower side of a body close to it
    near = np.clip(1 - (height - body.half_extents[1]) / 1.2, 0, 1).astype(np.float32)[:, None, None]
    ambient = ambient * (1 - np.float32(0.35) * near * np.clip(0.3 - upward, 0, 1))
    albedo = np.square(np.array(body.albedo, dtype=np.float32) / 255)
    planes = []
    for base, sunlight, skylight in zip(albedo, light.sun, light.ambient, strict=True):
        lit = diffuse * np.float32(sunlight) + ambient * np.float32(skylight)
        planes.append((base * lit + spark * np.float32(sunlight)) * hit)
    return np.stack(planes, axis=-1), hit


def _compose(frames: Array, layers: list[_Layer], distance: Array, masks: NDArray[np.uint8] | None = None) -> Array:
    """Lay the bodies over the frames, in place, far ones first; fills masks; returns each one's visible part (F, K)."""
    count, height, width = frames.shape[:3]
    visible = np.zeros(distance.shape, dtype=np.float32)
    order = np.argsort(distance, axis=1)  # near first
    overlap = len(layers) > 1
    for f in range(count):
        free = np.ones((height, width), dtype=np.float32) if overlap else None
        pieces = []
        for k in order[f]:
            layer = layers[k]
            h, w = layer.cover.shape[1:]
            top, left = int(layer.top[f]), int(layer.left[f])
            y0, y1, x0, x1 = max(top, 0), min(top + h, height), max(left, 0), min(left + w, width)
            if y0 >= y1 or x0 >= x1:
                continue
            inside = (f, slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
            cover = layer.cover[inside]
            pieces.append((slice(y0, y1), slice(x0, x1), cover, layer.colour[inside]))
            seen = cover if free is None else cover * free[y0:y1, x0:x1]
            visible[f, k] = seen.sum() / max(float(layer.cover[f].sum()), 1e-6)
            if masks is not None:
                masks[f, k, y0:y1, x0:x1] = np.rint(255 * seen)
            if free is not None:
                free[y0:y1, x0:x1] *= 1 - cover
        for rows, columns, cover, colour in reversed(pieces):
            patch = frames[f, rows, columns]
            patch *= 1 - cover[..., None]
            patch += colour
    return visible


def _extents(layer: _Layer, height: int, width: int) -> Array:
    """Boxes (F, 4) around the covered pixels, inside the picture."""
    count, h, w = layer.cover.shape
    boxes = np.zeros((count, 4), dtype=np.float32)
    for low, axis, start, size, limit in ((0, 1, layer.left, w, width), (1, 2, layer.top, h, height)):
        filled = np.asarray((layer.cover > 0).any(axis=axis))  # (F, size)
        first, last = filled.argmax(axis=1), size - filled[:, ::-1].argmax(axis=1)
        boxes[:, low] = np.clip(start + first, 0, limit)
        boxes[:, low + 2] = np.clip(start + last, 0, limit)
    outside = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    boxes[outside] = 0
    return boxes
