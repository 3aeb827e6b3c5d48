"""Where everything is at every frame, in closed form: no time step, so no integration error.

Between events a flying body follows a parabola and a body on the floor keeps its speed. Events are bounces off the
floor (Newton's law of restitution) and elastic collisions between bodies on the floor. Collisions exchange the momentum
of translation; a ball then rolls on without slipping at its new speed (spin and friction at the contact are left out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .world import GRAVITY, Array, Body, Camera, Scene

REST_SPEED = 0.25  # a bounce slower than this ends on the floor


@dataclass(frozen=True)
class State:
    """The true state at every frame; K bodies, F frames."""

    positions: Array  # (F, K, 3) centres
    velocities: Array  # (F, K, 3)
    rotations: Array  # (F, K, 3, 3) body frame to world
    eyes: Array  # (F, 3) camera positions
    views: Array  # (F, 3, 3) rows: right, up, forward


def simulate(scene: Scene, num_frames: int, fps: float) -> State:
    """The state of every body and of the camera at times 0, 1/fps, 2/fps, ..."""
    if num_frames < 1 or fps <= 0:
        raise ValueError(f"cannot simulate {num_frames} frames at {fps} fps: use at least 1 frame and a positive rate")
    times = np.arange(num_frames) / fps
    paths = [_path(body, times) for body in scene.bodies]
    movers = [i for i, body in enumerate(scene.bodies) if body.motion == "floor"]
    for index, path in zip(movers, _floor_paths([scene.bodies[i] for i in movers], times), strict=True):
        paths[index] = path
    positions = np.stack([p for p, _ in paths], axis=1)  # (F, K, 3)
    velocities = np.stack([v for _, v in paths], axis=1)  # (F, K, 3)
    rotations = np.stack(
        [_rotation(body, times, positions[:, k]) for k, body in enumerate(scene.bodies)], axis=1
    )  # (F, K, 3, 3)
    eyes, views = _camera(scene.camera, times)
    return State(positions, velocities, rotations, eyes, views)


def _path(body: Body, times: Array) -> tuple[Array, Array]:
    """Positions and velocities (F, 3) of a body that meets no other."""
    position = np.repeat(np.array([body.position]), len(times), axis=0)
    velocity = np.zeros_like(position)
    if body.motion == "fly":
        position[:, 0] += body.velocity[0] * times
        position[:, 2] += body.velocity[2] * times
        velocity[:, 0], velocity[:, 2] = body.velocity[0], body.velocity[2]
        position[:, 1], velocity[:, 1] = _bounces(body, times)
    elif body.motion == "circle":
        angle = body.phase + body.rate * times
        position[:, 0] += body.radius * np.cos(angle)
        position[:, 2] += body.radius * np.sin(angle)
        velocity[:, 0] = -body.radius * body.rate * np.sin(angle)
        velocity[:, 2] = body.radius * body.rate * np.cos(angle)
    return position, velocity


def _bounces(body: Body, times: Array) -> tuple[Array, Array]:
    """Height of the centre and vertical speed (F,): parabolas joined at the floor, each `restitution` times as fast."""
    floor = body.half_extents[1]
    start, height, speed = 0.0, body.position[1] - floor, body.velocity[1]
    heights, speeds = np.full_like(times, floor), np.zeros_like(times)
    while True:
        impact = math.sqrt(speed**2 + 2 * GRAVITY * max(height, 0.0))
        flight = (speed + impact) / GRAVITY
        during = (times >= start) & (times < start + flight)
        t = times[during] - start
        heights[during] = floor + height + speed * t - GRAVITY / 2 * t**2
        speeds[during] = speed - GRAVITY * t
        start, height, speed = start + flight, 0.0, body.restitution * impact
        if start > times[-1] or speed < REST_SPEED:
            return heights, speeds


def contact_distance(a: Body, b: Body) -> float:
    """Distance of the centres along the floor at which two bodies on the floor touch head on.

    Two balls of radii r and s touch when (r - s)^2 + d^2 = (r + s)^2, so at d = 2 sqrt(r s).
    """
    if a.shape == "ball" and b.shape == "ball":
        return 2.0 * math.sqrt(a.size * b.size)
    return a.half_extents[0] + b.half_extents[0]


def _floor_paths(bodies: list[Body], times: Array) -> list[tuple[Array, Array]]:
    """Paths of bodies that move along x on the floor and collide elastically: momentum and kinetic energy are kept."""
    x = [body.position[0] for body in bodies]
    v = [body.velocity[0] for body in bodies]
    now, keys = 0.0, [(0.0, list(x), list(v))]
    while True:
        hits = []
        for i in range(len(bodies)):
            for j in range(i + 1, len(bodies)):
                gap, closing = x[j] - x[i], v[i] - v[j]
                if gap * closing > 0:
                    wait = (abs(gap) - contact_distance(bodies[i], bodies[j])) / abs(closing)
                    hits.append((max(wait, 0.0), i, j))
        wait, i, j = min(hits, default=(math.inf, 0, 0))
        if now + wait > times[-1]:
            break
        now += wait
        x = [a + b * wait for a, b in zip(x, v, strict=True)]
        m, n = bodies[i].mass, bodies[j].mass
        centre = (m * v[i] + n * v[j]) / (m + n)
        v[i], v[j] = 2 * centre - v[i], 2 * centre - v[j]
        keys.append((now, list(x), list(v)))
    paths = []
    for k, body in enumerate(bodies):
        position = np.repeat(np.array([body.position]), len(times), axis=0)
        velocity = np.zeros_like(position)
        for start, xs, vs in keys:
            later = times >= start
            position[later, 0] = xs[k] + vs[k] * (times[later] - start)
            velocity[later, 0] = vs[k]
        paths.append((position, velocity))
    return paths


def _rotation(body: Body, times: Array, positions: Array) -> Array:
    """Rotation matrices (F, 3, 3): yaw and spin about y, then rolling without slipping for a ball on the floor."""
    turn = _turn_y(body.yaw + body.spin * times)
    if body.shape != "ball" or body.motion != "floor":
        return turn
    angle = -(positions[:, 0] - positions[0, 0]) / body.size  # about z: to the right is clockwise
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    roll = np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    return np.asarray(roll @ turn)


def _turn_y(angle: Array) -> Array:
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, zero, s, zero, one, zero, -s, zero, c], axis=-1).reshape(-1, 3, 3)


def _camera(camera: Camera, times: Array) -> tuple[Array, Array]:
    """Eye (F, 3) and view rows (F, 3, 3) of a camera that looks at its target, without roll."""
    target = np.repeat(np.array([camera.target]), len(times), axis=0)
    target[:, 0] += camera.track_rate * times
    angle = camera.angle + camera.orbit_rate * times
    offset = np.stack([np.sin(angle), np.zeros_like(angle), -np.cos(angle)], axis=-1) * camera.distance
    eyes = target + offset
    eyes[:, 1] = camera.height
    forward = target - eyes
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return eyes, np.stack([right, np.cross(forward, right), forward], axis=1)
