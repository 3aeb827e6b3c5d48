"""Clips to train on: rendered toy-world clips, and latents cached on disk as safetensors shards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..toyworld import captions, render, sample_scene
from .runs import from_uint8

FPS = 12.0


def toy_clip(
    seed: int, height: int, width: int, *, num_frames: int = 33, cyclic: bool = False
) -> tuple[NDArray[np.uint8], list[str]]:
    """Clip number `seed` of the toy world (frames (F, H, W, 3) uint8) and captions for it: two short, one detailed."""
    rng = np.random.default_rng([seed, height, width, num_frames, int(cyclic)])
    scene = sample_scene(rng, cyclic=cyclic, num_frames=num_frames, fps=FPS, aspect=width / height)
    clip = render(scene, num_frames=num_frames, height=height, width=width, fps=FPS)
    texts = [captions.short_caption(scene, rng), captions.short_caption(scene, rng), captions.detailed_caption(scene, rng)]
    return clip.frames, texts


def toy_pixels(first: int, count: int, height: int = 96, width: int = 96) -> list[Tensor]:
    """Clips number first, first + 1, ... as pixels (3, F, H, W) in [-1, 1]."""
    return [from_uint8(toy_clip(first + i, height, width)[0]) for i in range(count)]
