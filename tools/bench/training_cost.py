"""What training costs on one CPU thread: seconds of a step and clips a second, and the arithmetic of larger machines.

CPU seconds, so that other programs on the machine do not count; the difference of a longer and a shorter run, so that
start, scores and checkpoints do not count either. `gflop` are the multiplications and additions of one step, counted by
torch while it runs; divide them by what a machine really does in a second to know its step.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .resume import prepare

VAES, DITS = ("toy",), ("toy", "S")


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long to measure."""
    parser.add_argument("--steps", type=int, default=4, help="steps that are measured")
    parser.add_argument("--dtype", default="bfloat16")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Rows name, parameters_m, clips_per_step, gflop, cpu_s_per_step, clips_per_cpu_s."""
    import torch

    from ...models.clips.toy import toy_pixels
    from ...models.geometry import ClipSize

    torch.set_num_threads(1)
    clips = toy_pixels(0, 8, ClipSize(64, 64, 17))
    for preset in VAES:
        yield vae_row(preset, clips, options)
    with tempfile.TemporaryDirectory() as name:
        data = prepare(Path(name))
        for preset in DITS:
            yield dit_row(preset, data, options)


def vae_row(preset: str, clips: list[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Four crops of 64 x 64 x 17 a step, no images among them."""
    from ...models.training.vae.train import VAETraining, train
    from ...models.vae.autoencoder import PRESETS, VideoVAE

    settings = VAETraining(preset=preset, images=0.0, frames=(17,), dtype=options.dtype)

    def run(steps: int, out: Path) -> None:
        train(replace(settings, steps=steps, save_every=steps), clips, clips[:1], out)

    count = sum(p.numel() for p in VideoVAE(PRESETS[preset]).parameters())
    return {"name": f"VAE {preset}, 4 crops of 64x64x17"} | measured(run, count, settings.batch, options.steps)


def dit_row(preset: str, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """216 clips of 32 x 32 x 9 (12 patches each) a step: the cost of a step goes with its patches."""
    import torch

    from ...models.checkpoints import load_checkpoint
    from ...models.clips.cache import LatentCache
    from ...models.training.dit import train as dit
    from ...models.training.dit.settings import DiTTraining
    from ...models.transformer.config import PRESETS
    from ...models.transformer.dit import DiT

    cache, vae = LatentCache(data / "clips"), load_checkpoint(data / "vae.safetensors").vae()
    settings = DiTTraining(preset=preset, tokens=2592, images=0.0, snapshots=0, early=0.0, dtype=options.dtype)

    def run(steps: int, out: Path) -> None:
        dit.train(replace(settings, steps=steps, save_every=steps), cache, cache, torch.zeros(2, 384), vae, out)

    count = sum(p.numel() for p in DiT(PRESETS[preset]).parameters())
    return {"name": f"DiT {preset}, 2592 patches"} | measured(run, count, 2592 // 12, options.steps)


def measured(run: Callable[[int, Path], None], parameters: int, clips: int, steps: int) -> dict[str, Any]:
    """Time and count a run of `steps` + 1 steps against one of a single step."""
    from torch.utils.flop_counter import FlopCounterMode

    seconds, flops = [], []
    for length in (1, 1 + steps):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            run(length, Path(folder))
            seconds.append(time.process_time() - begin)
    for length in (1, 2):
        with tempfile.TemporaryDirectory() as folder, FlopCounterMode(display=False) as counter:
            run(length, Path(folder))
        flops.append(counter.get_total_flops())
    each = (seconds[1] - seconds[0]) / steps
    return {
        "parameters_m": parameters / 1e6,
        "clips_per_step": clips,
        "gflop": (flops[1] - flops[0]) / 1e9,
        "cpu_s_per_step": each,
        "clips_per_cpu_s": clips / each,
    }
