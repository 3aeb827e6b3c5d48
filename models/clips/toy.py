"""Rendered clips of the toy world, and their cached latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FPS, ClipSize
from ..pixels import from_uint8, stored
from ..text.encoder import TextEncoder
from ..toyworld import captions, render, sample_scene
from ..toyworld.truth import truth_of
from ..vae.autoencoder import VideoVAE, fingerprint
from .cache import text_features
from .shards import SHARD, mark_of, peek, remove_damaged, remove_shards, write_shard

Progress = Callable[[int, int], None]  # done, total


def quiet(_done: int, _total: int) -> None:
    """No progress shown."""


class ToyClip(NamedTuple):
    """A rendered clip and what is known about it."""

    frames: NDArray[np.uint8]  # (F, H, W, 3)
    captions: list[str]  # 4 short, 2 casual, 2 detailed
    kind: str  # what happens in it, its class: fall, bounce, roll, ...
    truth: NDArray[np.float16]  # (T, H/16, W/16, C), see toyworld.truth; (0,) where it was not asked for


def toy_example(seed: int, size: ClipSize, *, truth: bool = False) -> ToyClip:
    """Clip number `seed` of the toy world. truth: also what the simulator knows of each patch."""
    rng = np.random.default_rng([seed, size.height, size.width, size.num_frames, int(size.cyclic)])
    aspect = size.width / size.height
    scene = sample_scene(rng, cyclic=size.cyclic, num_frames=size.num_frames, fps=FPS, aspect=aspect)
    clip = render(scene, num_frames=size.num_frames, height=size.height, width=size.width, fps=FPS, masks=truth)
    short = [captions.short_caption(scene, rng) for _ in range(4)]
    casual = [captions.casual_caption(scene, rng) for _ in range(2)]
    detailed = [captions.detailed_caption(scene, rng) for _ in range(2)]
    known = truth_of(scene, clip) if truth else np.zeros(0, np.float16)
    return ToyClip(clip.frames, [*short, *casual, *detailed], scene.kind, known)


def toy_clip(seed: int, size: ClipSize) -> tuple[NDArray[np.uint8], list[str]]:
    """Clip number `seed` of the toy world, frames (F, H, W, 3) uint8, and captions: 4 short, 2 casual, 2 detailed."""
    made = toy_example(seed, size)
    return made.frames, made.captions


def toy_pixels(first: int, count: int, size: ClipSize, progress: Progress = quiet) -> list[Tensor]:
    """Clips number first, first + 1, ... as bytes (3, F, H, W)."""
    clips = []
    for i in range(count):
        progress(i, count)
        clips.append(stored(toy_clip(first + i, size)[0]))
    return clips


@torch.no_grad()
def cache_toy_world(
    folder: Path,
    vae: VideoVAE,
    encoder: TextEncoder,
    size: ClipSize,
    count: int,
    *,
    first: int = 0,
    truth: bool = False,
    progress: Progress = quiet,
) -> list[str]:
    """Render, encode and store clips number first .. first + count - 1 of one size; existing shards are kept.

    Shards of another VAE, and those that an earlier command with the same `first` made and this one does not name, are
    removed. truth: what the simulator knows is kept as well, to align a DiT with. Returns notices of these, and of
    shards that were damaged and made anew.
    """
    weight = vae.encoder.linear.weight
    mark = fingerprint(vae)
    notices = prepare_toy_world(folder, mark, size, first, count)
    for start in range(first, first + count, SHARD):
        path = folder / f"toy-{size}-{mark}-{start:06d}.safetensors"
        if path.exists():
            continue
        latents, texts, classes, known = [], [], [], []
        for seed in range(start, min(start + SHARD, first + count)):
            progress(seed - first, count)
            clip = toy_example(seed, size, truth=truth)
            pixels = from_uint8(clip.frames, weight.device)[None].to(weight.dtype)
            latents.append(vae.encode(pixels, cyclic=size.cyclic)[0].cpu())
            texts.append(clip.captions)
            classes.append(clip.kind)
            known.append(torch.from_numpy(clip.truth))
        made_from = {"vae": mark, "clips": mark_of(["toy", size, start, len(latents)]), "first": first}
        features = text_features(encoder, [line for lines in texts for line in lines])
        described = {"size": str(size), "cyclic": size.cyclic, "fps": FPS, "made_from": made_from}
        write_shard(path, latents, texts, classes, features, described, known if truth else ())
    return notices


def prepare_toy_world(folder: Path, mark: str, size: ClipSize, first: int, count: int) -> list[str]:
    """Remove the shards that are damaged or do not belong to these clips under the VAE of this mark; says so."""
    notices = [line for path in folder.glob("toy-*.safetensors") for line in remove_damaged(path)]
    held = {path: peek(path) for path in folder.glob("toy-*.safetensors")}
    notices += remove_shards((path for path, shard in held.items() if shard.vae != mark), "latents of another VAE")
    surplus = []
    for path, shard in held.items():
        start = int(path.stem.rpartition("-")[2])
        same = shard.vae == mark and shard.size == str(size) and shard.made_from.get("first", first) == first
        wanted = min(SHARD, first + count - start)
        inside = first <= start and (start - first) % SHARD == 0
        if same and inside and len(shard.captions) != wanted:
            surplus.append(path)
    return notices + remove_shards(surplus, f"another number of clips than {count} is asked for")
