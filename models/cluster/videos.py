"""A batch of videos into a folder: an mp4 (or the frames themselves) for each, and a list that says which is which."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..checkpoints import Checkpoint
from ..files import replacing
from ..media.writer import mp4_writer
from .fan_out import Job, Maker, OneByOne, Pool, Recipe, fan_out

LIST = "videos.jsonl"


@contextmanager
def pool(checkpoint: Checkpoint, recipe: Recipe, address: str | None, workers: int) -> Iterator[Pool]:
    """Workers of the cluster at an address ("local": this machine), 0: as many as fit; None: a loop in this process."""
    if checkpoint.dit_config is None or checkpoint.vae_config is None:
        raise ValueError("this checkpoint does not hold both a DiT and a VAE: bundle them, or choose another")
    if address is None:
        yield OneByOne(Maker(checkpoint, recipe))
        return
    from .actors import Actors
    from .connection import cluster

    with cluster(address, cpus=workers * recipe.threads or os.cpu_count() or 1) as ray:
        yield Actors(ray, checkpoint, recipe, workers)


def make_videos(
    workers: Pool,
    jobs: Sequence[Job],
    out: Path,
    *,
    fps: float,
    raw: bool = False,
    progress: Callable[[int], None] = lambda _done: None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Make each job's video and write it as soon as all before it are written; yields the files.

    raw: the frames (F, H, W, 3) uint8 as .npy instead of H.264, which loses some. ValueError when `out` already holds
    a batch.
    """
    if (out / LIST).exists():
        raise ValueError(f"{out} already holds videos: choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    for job, frames in fan_out(workers, jobs, progress=progress, check=check):
        path = out / f"{job.number + 1:04d}_seed{job.seed}.{'npy' if raw else 'mp4'}"
        if raw:
            with replacing(path) as partial, partial.open("wb") as file:
                np.save(file, frames, allow_pickle=False)
        else:
            with mp4_writer(path, fps) as video:
                video.write(frames)
        with (out / LIST).open("a", encoding="utf-8") as entries:
            entries.write(json.dumps({"file": path.name, "prompt": job.prompt, "seed": job.seed}) + "\n")
        yield path
