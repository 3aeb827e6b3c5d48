"""Floor, sky and the soft shadows that bodies throw on the floor. Colours are linear light, float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .world import Array, Body

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Light:
    """A time of day. Sky colours are sRGB in 0..1; sun and ambient are linear factors."""

    zenith: Colour
    horizon: Colour
    sun: Colour
    ambient: Colour
    shadow: float


LIGHTS = {
    "day": Light(
        zenith=(0.52, 0.71, 0.93),
        horizon=(0.91, 0.94, 0.97),
        sun=(0.82, 0.8, 0.75),
        ambient=(0.48, 0.5, 0.53),
        shadow=0.62,
    ),
    "sunset": Light(
        zenith=(0.46, 0.42, 0.62),
        horizon=(0.99, 0.72, 0.5),
        sun=(0.82, 0.7, 0.56),
        ambient=(0.5, 0.46, 0.47),
        shadow=0.55,
    ),
    "night": Light(
        zenith=(0.04, 0.06, 0.15),
        horizon=(0.17, 0.21, 0.36),
        sun=(0.56, 0.57, 0.6),
        ambient=(0.36, 0.37, 0.41),
        shadow=0.6,
    ),
}
# the two kinds of tiles, sRGB
TILES: dict[str, tuple[Colour, Colour]] = {
    "sandy": ((0.87, 0.82, 0.73), (0.74, 0.68, 0.59)),
    "gray": ((0.76, 0.78, 0.8), (0.6, 0.62, 0.65)),
    "dark": ((0.43, 0.42, 0.44), (0.31, 0.3, 0.33)),
}
SUN = np.array([-0.42, 0.8, -0.43]) / np.linalg.norm([-0.42, 0.8, -0.43])  # from the upper left, behind the viewer


def linear(colour: Colour) -> Array:
    """sRGB to linear light, with the gamma of 2 that the renderer uses throughout."""
    return np.square(np.array(colour, dtype=np.float32))


def floor_points(eye: Array, rays: Array) -> tuple[Array, Array, Array]:
    """Where rays (..., 3) from eye (..., 3) meet the floor: x, z, distance (all (...)); far away when they do not."""
    down = np.minimum(rays[..., 1], np.float32(-1e-4))
    t = -eye[..., 1] / down
    return eye[..., 0] + t * rays[..., 0], eye[..., 2] + t * rays[..., 2], t


def backdrop(floor: str, sky: str, eye: Array, rays: Array, pixel: float) -> Array:
    """Linear colours (..., 3) of floor and sky along rays (..., 3) of forward component 1, `pixel` apart."""
    light = LIGHTS[sky]
    x, z, t = floor_points(eye, rays)
    # the floor's footprint of a pixel, stretched where the view is flat
    width = np.minimum(t * np.float32(pixel), 40.0)
    depth = np.minimum(width * t / np.maximum(eye[..., 1], 0.1), 40.0)
    tile = _checker(x, z, width + 1e-3, depth + 1e-3)[..., None]
    even, odd = (linear(c) for c in TILES[floor])
    shine = np.array(light.sun, dtype=np.float32) * np.float32(SUN[1]) + np.array(light.ambient, dtype=np.float32)
    ground = (odd + (even - odd) * tile) * shine
    haze = (1 - np.exp(-np.square(np.minimum(t, 200.0) / np.float32(22.0))))[..., None]
    horizon, zenith = linear(light.horizon), linear(light.zenith)
    ground += (horizon - ground) * haze
    up = np.clip(rays[..., 1] * np.float32(1.9), 0, 1)[..., None]
    # at sunset the glow hugs the horizon
    blend = np.sqrt(up) * (2 - np.sqrt(up)) if sky == "sunset" else up
    air = horizon + (zenith - horizon) * blend
    return np.where(rays[..., 1:2] < 0, ground, air).astype(np.float32)


def _checker(x: Array, z: Array, width: Array, depth: Array) -> Array:
    """Box-filtered checkerboard of metre tiles in 0..1 (I. Quilez, "box-filtered checkerboard"): never aliases."""

    def stripes(p: Array, w: Array) -> Array:
        def triangle(q: Array) -> Array:
            return np.asarray(np.abs(q * np.float32(0.5) - np.floor(q * np.float32(0.5)) - np.float32(0.5)))

        half = w * np.float32(0.5)
        return np.asarray(2 * (triangle(p - half) - triangle(p + half)) / w, dtype=np.float32)

    return np.asarray(0.5 - 0.5 * stripes(x, width) * stripes(z, depth), dtype=np.float32)


def shadow(body: Body, position: Array, yaw: Array, x: Array, z: Array) -> Array:
    """How much of the sun a body takes from floor points x, z (F, h, w): 0 none, 1 all. Softer the higher it is.

    A body's shadow is the union of those of its horizontal slices, each a disc or a square shifted along the light.
    """
    half = body.half_extents
    shift_x, shift_z = np.float32(-SUN[0] / SUN[1]), np.float32(-SUN[2] / SUN[1])
    c, s = np.cos(yaw)[:, None, None], np.sin(yaw)[:, None, None]
    result = np.zeros(x.shape, dtype=np.float32)
    slices = (-0.8, -0.4, 0.0, 0.4, 0.8) if body.shape != "ball" else (-0.75, -0.35, 0.0, 0.35, 0.75)
    for u in slices:
        height = position[:, 1] + np.float32(u * half[1])
        dx = x - (position[:, 0] + shift_x * height)[:, None, None]
        dz = z - (position[:, 2] + shift_z * height)[:, None, None]
        soft = (0.1 + 0.14 * height)[:, None, None].astype(np.float32)
        if body.shape in ("cube", "wall"):
            across, along = np.abs(c * dx - s * dz), np.abs(s * dx + c * dz)
            distance = np.maximum(across - np.float32(half[0]), along - np.float32(half[2]))
        else:
            reach = {"ball": np.sqrt(1 - u * u), "cone": (1 - u) / 2, "cylinder": 1.0}[body.shape] * half[0]
            distance = np.sqrt(dx * dx + dz * dz) - np.float32(reach)
        ramp = np.clip(0.5 - distance / (2 * soft), 0, 1)
        result = np.maximum(result, ramp * ramp * (3 - 2 * ramp))
    strength = 1 / (1 + 0.12 * np.maximum(position[:, 1] - half[1], 0) ** 2)
    return np.asarray(result * strength[:, None, None], dtype=np.float32)
