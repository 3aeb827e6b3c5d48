"""What the simulator knows of a clip, in the places of its spacetime patches: targets for representation alignment.

A pretrained encoder's features stand in their place where clips are real (REPA, arXiv 2410.06940); here the truth
itself is at hand, which no encoder knows as well.
"""

from __future__ import annotations

import numpy as np
from einops import reduce
from numpy.typing import NDArray

from ..geometry import OURS
from .renderer import Clip
from .world import COLOURS, FLOORS, SHAPES, SKIES, WALL_COLOURS, Array, Body, Scene

TIME, CELL = OURS.time, 2 * OURS.space  # frames and pixels of a patch's sides
MOST = 4  # bodies of a scene that are told apart
_LOOKS = (*COLOURS, *WALL_COLOURS)
_FORMS = (*SHAPES, "wall")
CHANNELS = len(_LOOKS) + len(_FORMS) + MOST + 8 + len(FLOORS) + len(SKIES)


def truth_of(scene: Scene, clip: Clip) -> NDArray[np.float16]:
    """Features (T, H/16, W/16, CHANNELS) of a clip that was rendered with masks.

    By the part of a patch that each body covers: its colour, shape and number, its velocity in the camera's axes, how
    near it is, how it is turned, and which way its centre lies; by the rest of the patch, floor and sky.
    """
    assert clip.masks is not None, "the clip was rendered without masks"
    cover = _cells(clip.masks.astype(np.float32) / 255, cyclic=scene.cyclic)  # (T, K, h, w)
    frames = _middles(len(clip.frames), cyclic=scene.cyclic)
    told = np.stack([_of_body(body, k, clip, frames, cover.shape[2:]) for k, body in enumerate(scene.bodies)], axis=1)
    bodies = np.einsum("tkhw,tkhwc->thwc", cover, told)
    floor, sky = np.eye(len(FLOORS))[FLOORS.index(scene.floor)], np.eye(len(SKIES))[SKIES.index(scene.sky)]
    around = np.concatenate([floor, sky])
    free = np.clip(1 - cover.sum(axis=1), 0, 1)[..., None] * around
    return np.concatenate([bodies, free], axis=-1).astype(np.float16)


def _cells(masks: Array, *, cyclic: bool) -> Array:
    """The mean of masks (F, K, H, W) over the frames of each latent and the pixels of each patch, (T, K, h, w)."""
    if not cyclic:
        masks = np.concatenate([np.repeat(masks[:1], TIME - 1, axis=0), masks])
    return np.asarray(reduce(masks, "(t f) k (h a) (w b) -> t k h w", "mean", f=TIME, a=CELL, b=CELL))


def _middles(count: int, *, cyclic: bool) -> NDArray[np.int64]:
    """The frame in the middle of each latent."""
    if cyclic:
        return np.arange(TIME // 2, count, TIME)
    return np.concatenate([[0], np.arange(1 + TIME // 2, count, TIME)])


def _of_body(body: Body, number: int, clip: Clip, frames: NDArray[np.int64], cells: tuple[int, ...]) -> Array:
    """What is to be known of a body, (T, h, w, C)."""
    state, (height, width) = clip.state, cells
    colour, shape = np.eye(len(_LOOKS))[_LOOKS.index(body.colour)], np.eye(len(_FORMS))[_FORMS.index(body.shape)]
    fixed = np.concatenate([colour, shape, np.eye(MOST)[min(number, MOST - 1)]])
    views = state.views[frames]
    velocity = np.einsum("tij,tj->ti", views, state.velocities[frames, number]) / 2
    offset = np.einsum("tij,tj->ti", views, state.positions[frames, number] - state.eyes[frames])
    turned = np.einsum("tij,tj->ti", views, state.rotations[frames, number, :, 0])[:, [0, 2]]
    near = 6 / np.maximum(offset[:, 2:], 0.5)
    moving = np.concatenate([velocity, near, turned], axis=-1)  # (T, 6)
    left, top, right, bottom = (clip.boxes[frames, number, i] / CELL for i in range(4))
    x, y = (left + right)[:, None, None] / 2, (top + bottom)[:, None, None] / 2
    across = (x - np.arange(width) - 0.5 + np.zeros((1, height, 1))) / 3
    down = (y - np.arange(height)[:, None] - 0.5 + np.zeros((1, 1, width))) / 3
    shared = np.concatenate([np.tile(fixed, (len(frames), 1)), moving], axis=-1)
    spread = np.broadcast_to(shared[:, None, None], (len(frames), height, width, shared.shape[1]))
    return np.concatenate([spread, across[..., None], down[..., None]], axis=-1)
