"""Ray casting of the toy world's shapes in their own frames, for many rays at once.

Rays are origin (F, 1, 1) + t * direction (F, h, w), one triple of arrays each; the frame axis comes first everywhere.
A miss has t = inf. Normals are unit vectors in the body's frame, and arbitrary where nothing was hit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .world import Array

Triple = tuple[Array, Array, Array]


class Hit(NamedTuple):
    """Distance along each ray, in units of its direction, and the surface normal there."""

    t: Array
    normal: Triple


def cast(shape: str, half: tuple[float, float, float], origin: Triple, direction: Triple) -> Hit:
    """The first hit of each ray with a shape of these half extents."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if shape == "ball":
            return _ball(half[0], origin, direction)
        if shape in ("cube", "wall"):
            return _box(half, origin, direction)
        if shape == "cone":
            return _round(half[0], half[1], 0.0, origin, direction)
        return _round(half[0], half[1], 1.0, origin, direction)


def _ball(radius: float, o: Triple, d: Triple) -> Hit:
    """Nearest root of |o + t d|^2 = r^2."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - np.float32(radius * radius)
    root = b * b - a * c
    t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.float32(np.inf))
    s = np.where(root > 0, t, 0) / np.float32(radius)
    k = np.float32(1 / radius)
    return Hit(t, (o[0] * k + s * d[0], o[1] * k + s * d[1], o[2] * k + s * d[2]))


def _box(half: tuple[float, float, float], o: Triple, d: Triple) -> Hit:
    """Slab method (Kay and Kajiya 1986): enter at the last of the three near planes, unless a far plane comes first."""
    near, far = [], []
    for axis in range(3):
        step = 1 / np.where(np.abs(d[axis]) < 1e-9, np.float32(1e-9), d[axis])
        middle, reach = -o[axis] * step, np.float32(half[axis]) * np.abs(step)
        near.append(middle - reach)
        far.append(middle + reach)
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    t = np.where((enter < leave) & (enter > 0), enter, np.float32(np.inf))
    normal = tuple(np.where(near[axis] == enter, -np.sign(d[axis]), np.float32(0)) for axis in range(3))
    return Hit(t, (normal[0], normal[1], normal[2]))


def _round(radius: float, half: float, taper: float, o: Triple, d: Triple) -> Hit:
    """A cone (taper 0) or cylinder (taper 1) about y, from -half to half, with its lids.

    Radius at height y is k (half - y) for the cone, with k = radius / (2 half), and constant for the cylinder.
    """
    k = np.float32((1 - taper) * radius / (2 * half))
    r0 = np.float32(radius * (taper + (1 - taper) * 0.5))  # the radius at y = 0
    r, dr = r0 - k * o[1], -k * d[1]  # radius along the ray: r + t dr
    a = d[0] * d[0] + d[2] * d[2] - dr * dr
    b = o[0] * d[0] + o[2] * d[2] - r * dr
    c = o[0] * o[0] + o[2] * o[2] - r * r
    root = b * b - a * c
    side = (-b - np.sqrt(np.maximum(root, 0))) / a
    height = o[1] + side * d[1]
    side = np.where((root > 0) & (np.abs(height) <= half) & (side > 0), side, np.float32(np.inf))
    # the camera sees the lid that faces it: the upper one from above, the lower one from below
    lid_y = np.where(o[1] > 0, np.float32(half), np.float32(-half))
    lid = (lid_y - o[1]) / d[1]
    x, z = o[0] + lid * d[0], o[2] + lid * d[2]
    lid_radius = np.where(o[1] > 0, np.float32(taper * radius), np.float32(radius))
    lid = np.where((x * x + z * z <= lid_radius * lid_radius) & (lid > 0), lid, np.float32(np.inf))
    on_lid = lid < side
    t = np.minimum(side, lid)
    s = np.where(np.isfinite(side), side, 0)
    nx, nz = o[0] + s * d[0], o[2] + s * d[2]
    length = 1 / np.sqrt(np.maximum(nx * nx + nz * nz, 1e-12) * (1 + k * k))
    zero = np.float32(0)
    normal = (
        np.where(on_lid, zero, nx * length),
        np.where(on_lid, np.sign(lid_y), k / np.sqrt(1 + k * k)),
        np.where(on_lid, zero, nz * length),
    )
    return Hit(t, normal)
