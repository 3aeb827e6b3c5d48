"""Sample scenes at random: which objects, where, how they move, seen by which camera.

A fixed eighth of all combinations of colour, shape and kind is held out: training scenes never contain one, so prompts
that name them measure whether a model composes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from numpy.random import Generator

from ..geometry import FPS
from .world import COLOURS, CYCLIC_KINDS, FLOORS, GRAVITY, KINDS, SHAPES, SKIES, Body, Camera, Scene

HELD_OUT_PERCENT = 12
_SHAPE_ODDS = {"ball": 0.32, "cube": 0.3, "cone": 0.22, "cylinder": 0.16}
# a cone or cylinder looks the same from every side, so only a cube shows that it spins
_ROLES = {"spin": ("cube",), "bounce": ("ball", "cube"), "collide": ("ball", "cube")}


def is_held_out(colour: str, shape: str, kind: str) -> bool:
    """Whether this combination is kept out of training. Fixed for ever: it depends on the words alone."""
    digest = hashlib.sha256(f"{colour} {shape} {kind}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


@cache
def held_out_combinations() -> tuple[tuple[str, str, str], ...]:
    """All (colour, shape, kind) that training never sees."""
    return tuple(
        (colour, shape, kind)
        for kind in KINDS
        for shape in _ROLES.get(kind, SHAPES)
        for colour in COLOURS
        if is_held_out(colour, shape, kind)
    )


def sample_scene(
    rng: Generator,
    *,
    kind: str | None = None,
    held_out: bool = False,
    cyclic: bool = False,
    num_frames: int = 33,
    fps: float = FPS,
    aspect: float = 1.0,
) -> Scene:
    """A random scene whose action fills num_frames at fps in a picture of width / height = aspect.

    held_out=True yields scenes with a combination that training never sees, False never does. cyclic=True makes the
    state at frame num_frames equal that at frame 0 (num_frames divisible by 4, kinds bounce, orbit, circle and spin).
    """
    kinds = CYCLIC_KINDS if cyclic else KINDS
    if kind is None:
        kind = str(rng.choice([k for k in kinds if not held_out or any(k == c[2] for c in held_out_combinations())]))
    if kind not in kinds:
        raise ValueError(f"no {'cyclic ' if cyclic else ''}scene of kind {kind!r}: use one of {', '.join(kinds)}")
    if cyclic and num_frames % 4:
        raise ValueError(f"a loop of {num_frames} frames does not fit the codec: use a multiple of 4")
    # a single frame shows the start of an ordinary clip
    length = num_frames if cyclic else max(num_frames, 17) - 1
    stage = _Stage(rng, kind, held_out, cyclic, length / fps, max(1.0, aspect))
    scene = _BUILDERS[kind](stage)
    day = rng.random() < 0.6
    return replace(
        scene,
        floor=str(rng.choice(FLOORS, p=(0.6, 0.2, 0.2))),
        sky="day" if day else str(rng.choice(SKIES[1:])),
        cyclic=cyclic,
    )


@dataclass
class _Stage:
    """The choices made so far while a scene is put together."""

    rng: Generator
    kind: str
    held_out: bool
    cyclic: bool
    seconds: float
    width: float  # the picture's width over its short side

    def uniform(self, low: float, high: float) -> float:
        """A number between low and high."""
        return float(self.rng.uniform(low, high))

    def either(self) -> float:
        """1 or -1: right or left."""
        return 1.0 if self.rng.random() < 0.5 else -1.0

    def looks(self, count: int, shapes: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """`count` pairs (shape, colour), colours all different, none held out (or at least one, if asked for)."""
        shapes = tuple(shapes or _ROLES.get(self.kind, SHAPES))
        odds = [_SHAPE_ODDS[shape] for shape in shapes]
        for _ in range(10_000):
            colours = [str(c) for c in self.rng.choice(list(COLOURS), size=count, replace=False)]
            chosen = [str(s) for s in self.rng.choice(shapes, size=count, p=[o / sum(odds) for o in odds])]
            unseen = [is_held_out(c, s, self.kind) for c, s in zip(colours, chosen, strict=True)]
            if unseen[0] if self.held_out else not any(unseen):
                return list(zip(chosen, colours, strict=True))
        raise ValueError(f"no held-out combination exists for kind {self.kind!r} with shapes {', '.join(shapes)}")

    def bystander(self, taken: str) -> tuple[str, str]:
        """Another object, of another colour, for the background of a one-object scene."""
        while True:
            colour, shape = str(self.rng.choice(list(COLOURS))), str(self.rng.choice(SHAPES))
            if colour != taken and not is_held_out(colour, shape, self.kind):
                return shape, colour

    def body(self, look: tuple[str, str], size: float, x: float, z: float, height: float = 0.0) -> Body:
        """A body that stands on the floor, or with its lowest point at `height`."""
        shape, colour = look
        yaw = self.uniform(0.3, 0.75) if shape == "cube" else 0.0
        body = Body(shape=shape, colour=colour, size=size, position=(x, 0.0, z), yaw=yaw)
        return replace(body, position=(x, height + body.half_extents[1], z))

    def with_bystander(self, actor: Body, odds: float, x: float | None = None) -> tuple[Body, ...]:
        """The actor, and with probability `odds` a resting object behind it."""
        if self.rng.random() > odds:
            return (actor,)
        spot = self.either() * self.uniform(0.7, 1.2) * self.width if x is None else x
        other = self.body(self.bystander(actor.colour), self.uniform(0.42, 0.55), spot, 1.4)
        return (actor, other)


def _bounce(stage: _Stage) -> Scene:
    size, way = stage.uniform(0.4, 0.58), stage.either()
    look = stage.looks(1)[0]
    if stage.cyclic or stage.rng.random() < 0.2:
        # n bounces per clip, each a full parabola: v = g T / 2n, height = v^2 / 2g
        options = [n for n in range(1, 9) if 0.25 <= GRAVITY * (stage.seconds / n) ** 2 / 8 <= 2.0]
        count = int(stage.rng.choice(options or [max(1, round(stage.seconds / 1.2))]))
        speed = GRAVITY * stage.seconds / (2 * count)
        body = stage.body(look, size, stage.uniform(-0.5, 0.5), 0.0)
        actor = replace(body, motion="fly", velocity=(0.0, speed, 0.0), restitution=1.0)
        return Scene(kind="bounce", bodies=stage.with_bystander(actor, 0.2, x=way * stage.uniform(1.2, 1.5)))
    start = stage.uniform(1.25, 1.5) * stage.width
    speed = way * start * stage.uniform(1.8, 2.0) / stage.seconds
    body = stage.body(look, size, -way * start, stage.uniform(-0.2, 0.3), stage.uniform(1.0, 1.7))
    actor = replace(body, motion="fly", velocity=(speed, 0.0, 0.0), restitution=stage.uniform(0.8, 0.9))
    return Scene(kind="bounce", bodies=stage.with_bystander(actor, 0.2), direction=_name(way))


def _fall(stage: _Stage) -> Scene:
    look = stage.looks(1)[0]
    size, x = stage.uniform(0.4, 0.62), stage.uniform(-0.7, 0.7) * stage.width
    body = stage.body(look, size, x, stage.uniform(-0.2, 0.3), stage.uniform(1.35, 1.9))
    actor = replace(body, motion="fly", restitution=0.5 if look[0] == "ball" else 0.25)
    side = -1.0 if x > 0 else 1.0
    return Scene(kind="fall", bodies=stage.with_bystander(actor, 0.25, x=x + side * stage.uniform(1.2, 1.5)))


def _roll(stage: _Stage) -> Scene:
    look = stage.looks(1)[0]
    size, way = stage.uniform(0.4, 0.62), stage.either()
    start = stage.uniform(1.2, 1.5) * stage.width
    body = stage.body(look, size, -way * start, stage.uniform(-0.5, 0.2))
    actor = replace(body, motion="floor", velocity=(way * start * stage.uniform(1.7, 2.0) / stage.seconds, 0.0, 0.0))
    return Scene(kind="roll", bodies=stage.with_bystander(actor, 0.25), direction=_name(way))


def _collide(stage: _Stage) -> Scene:
    shape = str(stage.rng.choice(("ball", "cube"), p=(0.7, 0.3)))
    if stage.held_out:
        shape = str(stage.rng.choice([s for _, s, k in held_out_combinations() if k == "collide"]))
    looks = stage.looks(2, [shape])
    if stage.rng.random() < 0.5:
        looks.reverse()
    first = stage.uniform(0.42, 0.54)
    sizes = first, first * stage.uniform(0.92, 1.08)
    z, start = stage.uniform(-0.3, 0.2), stage.uniform(1.25, 1.5) * stage.width
    # they meet in the first half, and even a lighter one is still in the picture at the end
    speed = start * stage.uniform(1.35, 1.55) / stage.seconds
    pair = []
    for look, size, side in zip(looks, sizes, (-1.0, 1.0), strict=True):
        body = replace(stage.body(look, size, side * start, z), yaw=0.0, motion="floor")
        pair.append(replace(body, velocity=(-side * speed, 0.0, 0.0)))
    return Scene(kind="collide", bodies=tuple(pair))


def _hide(stage: _Stage) -> Scene:
    look = stage.looks(1)[0]
    size, way = stage.uniform(0.38, 0.5), stage.either()
    # on a wide picture the object still crosses from side to side
    start = stage.uniform(1.6, 1.8) * stage.width
    body = stage.body(look, size, -way * start, 0.7)
    actor = replace(body, motion="floor", velocity=(way * 2 * start / stage.seconds, 0.0, 0.0))
    colour = str(stage.rng.choice(("brown", "gray"), p=(0.7, 0.3)))
    wall = Body(shape="wall", colour=colour, size=size * stage.uniform(1.3, 1.5), position=(0.0, 0.9, -0.7))
    return Scene(kind="hide", bodies=(actor, wall), direction=_name(way))


def _row(stage: _Stage, spread: float = 1.0) -> tuple[Body, ...]:
    """One to three objects side by side."""
    count = int(stage.rng.choice((1, 2, 3), p=(0.3, 0.4, 0.3)))
    looks = stage.looks(count)
    stage.rng.shuffle(looks)
    size = {1: (0.5, 0.68), 2: (0.45, 0.58), 3: (0.4, 0.46)}[count]
    gap = {1: 0.0, 2: 0.8, 3: 1.2}[count] * spread
    places = [0.0] if count == 1 else [gap * (2 * i / (count - 1) - 1) for i in range(count)]
    return tuple(
        stage.body((look[0], look[1]), stage.uniform(*size), x + stage.uniform(-0.1, 0.1), stage.uniform(-0.3, 0.4))
        for look, x in zip(looks, places, strict=True)
    )


def _still(stage: _Stage) -> Scene:
    return Scene(kind="still", bodies=_row(stage))


def _pan(stage: _Stage) -> Scene:
    way = stage.either()
    travel = stage.uniform(1.4, 1.9)
    camera = Camera(target=(-way * travel / 2, 0.95, 0.0), track_rate=way * travel / stage.seconds)
    return Scene(kind="pan", bodies=_row(stage), camera=camera, direction=_name(way))


def _orbit(stage: _Stage) -> Scene:
    turn = 2 * math.pi if stage.cyclic else stage.uniform(1.6, 2.4)
    camera = Camera(
        target=(0.0, 0.7, 0.0),
        height=stage.uniform(1.9, 2.4),
        distance=stage.uniform(5.2, 6.0),
        angle=0.0 if stage.cyclic else stage.uniform(-0.2, 0.2),
        orbit_rate=turn / stage.seconds,
    )
    bodies = _row(stage, 0.95)
    if len(bodies) == 3:
        # a triangle hides less of itself than a row when seen from the end
        bodies = tuple(
            replace(body, position=(body.position[0], body.position[1], z))
            for body, z in zip(bodies, (-0.45, 0.8, -0.45), strict=True)
        )
    return Scene(kind="orbit", bodies=bodies, camera=camera)


def _circle(stage: _Stage) -> Scene:
    outer, inner = stage.looks(2)
    centre = stage.body(inner, stage.uniform(0.5, 0.6), stage.uniform(-0.15, 0.15), 0.2)
    moon = stage.body(outer, stage.uniform(0.34, 0.42), centre.position[0], centre.position[2])
    turns = 1.0 if stage.cyclic else stage.uniform(0.9, 1.1)
    moon = replace(
        moon,
        motion="circle",
        radius=stage.uniform(1.2, 1.4),
        rate=2 * math.pi * turns / stage.seconds,
        phase=stage.uniform(0.0, 2 * math.pi),
    )
    camera = Camera(height=stage.uniform(1.7, 2.1), target=(0.0, 0.8, 0.0))
    return Scene(kind="circle", bodies=(moon, centre), camera=camera)


def _spin(stage: _Stage) -> Scene:
    look = stage.looks(1)[0]
    x = stage.uniform(-0.5, 0.5)
    body = stage.body(look, stage.uniform(0.55, 0.72), x, 0.0)
    # a quarter turn maps a cube onto itself: whole turns loop, and slow ones can be seen
    turns = 1.0 if stage.cyclic else stage.uniform(0.6, 1.0)
    actor = replace(body, spin=2 * math.pi * turns / stage.seconds)
    side = -1.0 if x > 0 else 1.0
    return Scene(kind="spin", bodies=stage.with_bystander(actor, 0.25, x=x + side * stage.uniform(1.2, 1.4)))


def _name(way: float) -> str:
    return "right" if way > 0 else "left"


_BUILDERS: dict[str, Callable[[_Stage], Scene]] = {
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
