"""What the pack computes, as fingerprints: equal before and after a change that is to leave everything as it was.

A refactor proves itself with two runs on one machine, before and after, whose JSON files are compared:

    python3 run.py bench fingerprints --json before.json

Each row is the sha256 of weights, latents or frames that come of fixed seeds on one thread of the CPU, from tiny
networks. Another machine, or another torch, has other numbers.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.clips.cache import LatentCache
from ...models.clips.toy import cache_toy_world, toy_pixels
from ...models.generate import Models, generate
from ...models.geometry import ClipSize
from ...models.solvers import SOLVERS
from ...models.tasks.canvas import Canvas
from ...models.text.encoder import load_text_encoder
from ...models.training.dit import train as dit
from ...models.training.dit.settings import DiTTraining
from ...models.training.vae import train as vae
from ...models.training.vae.objective import VAETraining
from ...models.vae.autoencoder import PRESETS, VideoVAE
from .gpu.checks import CLIP, TASKS, sampled

SIZES = (ClipSize(32, 32, 9), ClipSize(32, 32, 1))
DIT: dict[str, Any] = {"preset": "test", "steps": 3, "tokens": 48, "save_every": 3, "warmup": 1, "dtype": "float32"}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bfloat16": {"dtype": "bfloat16"},
    "steady": {"steadiness": 0.5},
    "aligned": {"alignment": 0.5},
    "packed": {"packing": True},
    "routed": {"route": 0.5, "route_start": 0, "route_end": 1},
}
GENERATED: dict[str, Any] = {"num_frames": 9, "height": 32, "width": 32, "steps": 3}


def rows() -> Iterable[dict[str, Any]]:
    """Rows name, sha256 (its first 16 digits)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, compute in computed(Path(folder)).items():
                torch.manual_seed(0)
                yield {"name": name, "sha256": fingerprint(compute())[:16]}
    finally:
        torch.set_num_threads(threads)


def fingerprint(values: Mapping[str, Tensor]) -> str:
    """The sha256 of tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(values.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def computed(folder: Path) -> dict[str, Callable[[], Mapping[str, Tensor]]]:
    """What is computed, by name; in this order, since later ones use what earlier ones left in the folder."""
    torch.manual_seed(0)
    network = VideoVAE(PRESETS["test"])
    for number, size in enumerate(SIZES):
        cache_toy_world(folder / "cache", network, load_text_encoder(), size, 4, first=10 * number, truth=True)
    cache = LatentCache(folder / "cache")

    def trained(name: str) -> Mapping[str, Tensor]:
        settings = DiTTraining(**(DIT | RUNS[name]))
        return dit.train(settings, cache, cache, torch.zeros(2, 384), network, folder / name).state_dict()

    def trained_vae() -> Mapping[str, Tensor]:
        settings = VAETraining(preset="test", steps=2, batch=1, crop=32, frames=(9,), save_every=2)
        clips = toy_pixels(0, 2, SIZES[0])
        return vae.train(settings, clips, clips[:1], folder / "vae").state_dict()

    def video(**more: Any) -> Mapping[str, Tensor]:
        clips = generate(Models.load(dtype=torch.float32), ["a red ball falls"], **(GENERATED | more))
        return {"frames": torch.from_numpy(clips[0])}

    found: dict[str, Callable[[], Mapping[str, Tensor]]] = {}
    found |= {f"train a DiT, {name}": lambda name=name: trained(name) for name in RUNS}
    found |= {"train a VAE": trained_vae, "generate": video}
    found |= {"generate a loop": lambda: video(cyclic=True, num_frames=8)}
    found |= {f"solver {name}": lambda name=name: {"x": sampled(torch.device("cpu"), name)} for name in SOLVERS}
    return found | {f"task {name}": lambda task=task: parts(task(CLIP)) for name, task in TASKS.items()}


def parts(canvas: Canvas) -> dict[str, Tensor]:
    """What a task lays out."""
    return {"latents": canvas.latents, "change": canvas.change}
