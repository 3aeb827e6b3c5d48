"""Gradients cut at a constant, and also at what is usual of late: in a sound run, and in one with a broken clip.

Validation losses of a small DiT on toy-world clips at the end of a run, as the mean over seeds, which also draw the
clips of the steps. Broken: the latents of one clip of the training are 30 times too large, so that a step that draws it
has a gradient far longer than the others. The clips of the validation are always sound. CPU, fp32.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ...models.files import parsed_json, read_text
from .resume import SIZE, prepare

LIMITS = (0.0, 3.0)
BROKEN = 30.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long to train, and how often."""
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=200, help="clips to train on, of which one is broken")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Rows optimiser, clips, deviations (0: the constant alone), loss, worst (of a seed)."""
    import torch

    from ...models.checkpoints import load_checkpoint
    from ...models.clips.cache import LatentCache
    from ...models.training.dit import train as dit
    from ...models.training.dit.settings import DiTTraining

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        data = prepare(Path(name), clips=options.clips)
        vae, sound, broken = (
            load_checkpoint(data / "vae.safetensors").vae(),
            *(LatentCache(data / "clips") for _ in range(2)),
        )
        latents, texts = broken.buckets[SIZE][0]
        broken.buckets[SIZE][0] = (latents * BROKEN, texts)
        settings = DiTTraining(
            preset="test",
            steps=options.steps,
            save_every=options.steps,
            tokens=120,
            snapshots=0,
            early=0.0,
            warmup=options.steps // 10,
            learning_rate=3e-3,
            dtype="float32",
        )
        for optimiser, clips, deviations in product(("Muon", "AdamW"), ("sound", "one broken"), LIMITS):
            losses = []
            for seed in range(options.seeds):
                out = data / f"{optimiser} {clips} {deviations} {seed}"
                changed = replace(settings, seed=seed, muon=optimiser == "Muon", clip_deviations=deviations)
                cache = broken if clips == "one broken" else sound
                dit.train(changed, cache, sound, torch.zeros(2, 384), vae, out)
                losses.append(
                    parsed_json(read_text(out / "log.jsonl").splitlines()[-1], "log.jsonl", dict)["validation_loss"]
                )
            result = {"loss": statistics.mean(losses), "worst": max(losses)}
            yield {"optimiser": optimiser, "clips": clips, "deviations": deviations} | result
