"""What a toy-world scene is made of: bodies, a camera, a setting. Units: metres, seconds, radians.

Axes: x to the right, y up, z away from the camera. The floor is y = 0. A camera sees the square |x|, |y - 0.95| < 2 at
z = 0 on the short side of the picture, so a body of size 0.5 is a quarter of the picture wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Array = NDArray[np.floating[Any]]
Motion = Literal["rest", "fly", "floor", "circle"]

SHAPES = ("ball", "cube", "cone", "cylinder")
# albedo in sRGB
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 30, 34),
    "green": (36, 160, 50),
    "blue": (32, 72, 224),
    "yellow": (246, 212, 24),
    "orange": (248, 126, 14),
    "purple": (126, 38, 176),
    "cyan": (32, 198, 212),
    "pink": (250, 112, 184),
    "white": (246, 246, 246),
}
WALL_COLOURS: dict[str, tuple[int, int, int]] = {"brown": (112, 78, 56), "gray": (122, 124, 128)}
FLOORS = ("sandy", "gray", "dark")
SKIES = ("day", "sunset", "night")
KINDS = ("bounce", "fall", "roll", "collide", "hide", "orbit", "pan", "circle", "still", "spin")
CYCLIC_KINDS = ("bounce", "orbit", "circle", "spin")

GRAVITY = 5.0  # m/s^2; half of the earth's, so that a fall of two metres lasts about a second
CAMERA_HEIGHT = 1.5
CAMERA_DISTANCE = 6.0
TARGET_HEIGHT = 0.95
FIELD = 2.0  # half the short side of the picture, in metres at the camera's target


@dataclass(frozen=True, kw_only=True)
class Body:
    """One thing in the world, as it is at time 0.

    size is the ball's radius; the other shapes are scaled from it to look about as big (see half_extents).
    motion: rest; fly = gravity and bounces off the floor; floor = moves along the floor and collides; circle = goes
    round `position` at distance `radius`, `rate` radians per second, from angle `phase`.
    """

    shape: str
    colour: str
    size: float
    position: Vector
    motion: Motion = "rest"
    velocity: Vector = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    spin: float = 0.0
    restitution: float = 0.0
    radius: float = 0.0
    rate: float = 0.0
    phase: float = 0.0

    @property
    def half_extents(self) -> Vector:
        """Half width, half height, half depth in the body's own frame."""
        if self.shape == "ball":
            return (self.size, self.size, self.size)
        if self.shape == "cube":
            return (0.84 * self.size, 0.84 * self.size, 0.84 * self.size)
        if self.shape == "cone":
            return (0.95 * self.size, 1.05 * self.size, 0.95 * self.size)
        if self.shape == "cylinder":
            return (0.72 * self.size, 1.05 * self.size, 0.72 * self.size)
        if self.shape == "wall":
            return (self.size, 0.9, 0.12)
        raise ValueError(f"unknown shape {self.shape!r}: use one of {', '.join(SHAPES)}")

    @property
    def mass(self) -> float:
        """Mass for a density of 1 kg per cubic metre of the surrounding box; only ratios matter."""
        x, y, z = self.half_extents
        return 8.0 * x * y * z

    @property
    def albedo(self) -> tuple[int, int, int]:
        """The colour in sRGB."""
        return COLOURS[self.colour] if self.shape != "wall" else WALL_COLOURS[self.colour]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Looks from a circle around `target`; orbit_rate in radians, track_rate in metres per second, to the right."""

    target: Vector = (0.0, TARGET_HEIGHT, 0.0)
    height: float = CAMERA_HEIGHT
    distance: float = CAMERA_DISTANCE
    angle: float = 0.0
    orbit_rate: float = 0.0
    track_rate: float = 0.0

    @property
    def is_static(self) -> bool:
        """Whether every frame is seen from the same place."""
        return self.orbit_rate == 0.0 and self.track_rate == 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that determines a clip. `bodies` are named from left to right as they stand in the first frame."""

    kind: str
    bodies: tuple[Body, ...]
    camera: Camera = Camera()
    direction: str | None = None  # "left" or "right", where the kind has one
    floor: str = "sandy"
    sky: str = "day"
    cyclic: bool = False

    @property
    def objects(self) -> tuple[Body, ...]:
        """The coloured objects, without the wall."""
        return tuple(body for body in self.bodies if body.shape != "wall")

    @property
    def actors(self) -> tuple[Body, ...]:
        """The objects that move of themselves."""
        return tuple(body for body in self.objects if body.motion != "rest" or body.spin)
