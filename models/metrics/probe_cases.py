"""Scenes for the probes: which are sampled as in training, which lie outside of it, and how much of each is given."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..toyworld import Scene, render, sample_scene, short_caption
from .probes import Case

LEAST = 4.0  # percent of the picture that something moves on average after the known frames
LOOP = 32  # frames after which the scenes of long videos repeat


@dataclass(frozen=True)
class Probe:
    """kinds: the scenes' kinds, in turn; known: frames given; measures: names in probes.MEASURES."""

    kinds: tuple[str, ...]
    known: int
    measures: tuple[str, ...]
    change: Callable[[Scene], Scene] | None = None  # makes a scene as training has none
    length: int = 1  # times as long as the model's own clips


def _thrown(scene: Scene) -> Scene:
    """Thrown up before it falls, from half the height; in training it is let go."""
    actor = scene.bodies[0]
    rest = actor.half_extents[1]
    x, y, z = actor.position
    thrown = replace(actor, position=(x, rest + 0.5 * (y - rest), z), velocity=(0.0, 1.8, 0.0))
    return replace(scene, bodies=(thrown, *scene.bodies[1:]))


def _duller(scene: Scene) -> Scene:
    """Each bounce is half as fast as the one before; in training at least 0.8."""
    actor = scene.bodies[0]
    return replace(scene, bodies=(replace(actor, restitution=0.5), *scene.bodies[1:]))


def _struck(scene: Scene) -> Scene:
    """One of the two stands still until it is struck; in training both move."""
    mover, target = scene.bodies
    speed = 1.8 * mover.velocity[0]
    x, y, z = target.position
    return replace(
        scene,
        bodies=(
            replace(mover, velocity=(speed, 0.0, 0.0)),
            replace(target, velocity=(0.0, 0.0, 0.0), position=(0.25 * x, y, z)),
        ),
    )


PROBES: dict[str, Probe] = {
    "object permanence": Probe(("hide",), 5, ("permanence",)),
    "camera moves": Probe(("orbit", "pan"), 9, ("track error", "epipolar error", "floor agreement")),
    "fall": Probe(("fall",), 5, ("track error",)),
    "fall, thrown up": Probe(("fall",), 5, ("track error",), _thrown),
    "bounce": Probe(("bounce",), 9, ("track error",)),
    "bounce, duller": Probe(("bounce",), 9, ("track error",), _duller),
    "collision": Probe(("collide",), 9, ("track error",)),
    "collision, one at rest": Probe(("collide",), 9, ("track error",), _struck),
    "long-range coherence": Probe(("circle", "bounce"), 9, ("coherence",), length=3),
}


def cases(
    name: str, count: int, *, height: int = 96, width: int = 96, num_frames: int = 33, seed: int = 0
) -> list[Case]:
    """`count` cases of a probe. Long ones have num_frames plus `length - 1` times what a clip adds to its prefix."""
    if name not in PROBES:
        raise ValueError(f"unknown probe {name!r}: use one of {', '.join(PROBES)}")
    probe = PROBES[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    frames = num_frames + (probe.length - 1) * (num_frames - probe.known)
    result: list[Case] = []
    for _ in range(100 * count):
        if len(result) == count:
            return result
        kind, cyclic = probe.kinds[len(result) % len(probe.kinds)], probe.length > 1
        scene = sample_scene(
            rng, kind=kind, cyclic=cyclic, num_frames=LOOP if cyclic else num_frames, aspect=width / height
        )
        scene = probe.change(scene) if probe.change else scene
        truth = render(scene, num_frames=frames, height=height, width=width)
        case = Case(name, scene, truth, probe.known, short_caption(scene, rng))
        if usable(case):
            result.append(case)
    raise ValueError(f"probe {name!r} found no usable scenes of {num_frames} frames: use 33 or more")


def usable(case: Case) -> bool:
    """Whether there is something to judge: objects in view after the prefix, and what the probe is about."""
    objects, plain = case.scene.objects, case.plain()
    if not plain.any(axis=0).all() or any(body.colour == "white" for body in objects):
        return False  # white things on white haze are hard to follow
    away = np.linalg.norm(case.places() - case.places()[case.known - 1], axis=-1)
    if away[case.new()].mean(axis=0).max() < LEAST:
        return False
    if case.scene.kind == "orbit":
        return len(objects) > 1  # one alone in the middle stays where it is
    if case.scene.kind == "hide":
        hidden = np.flatnonzero(case.hidden())
        return len(hidden) > 1 and bool(plain[hidden.max() + 1 :, 0].any())
    return True
