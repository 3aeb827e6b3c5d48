"""A batch of videos into a folder: an mp4 (or the frames themselves) for each, and a list that says which is which."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..checkpoints import Checkpoint
from .fan_out import Frames, Job, Maker, OneByOne, Pool, Recipe, fan_out

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
    workers: Pool, jobs: Sequence[Job], out: Path, *, fps: float, raw: bool = False,
    progress: Callable[[int], None] = lambda _done: None, check: Callable[[], None] = lambda: None,
) -> Iterator[Path]:  # fmt: skip
    """Make each job's video and write it as soon as all before it are written; yields the files.

    raw: the frames (F, H, W, 3) uint8 as .npy instead of H.264, which loses some. ValueError when `out` already holds
    a batch.
    """
    if (out / LIST).exists():
        raise ValueError(f"{out} already holds videos: choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    for job, frames in fan_out(workers, jobs, progress=progress, check=check):
        path = out / f"{job.number + 1:04d}_seed{job.seed}.{'npy' if raw else 'mp4'}"
        partial = path.with_suffix(".part")
        if raw:
            with partial.open("wb") as file:
                np.save(file, frames, allow_pickle=False)
        else:
            write_mp4(partial, frames, fps)
        partial.replace(path)
        with (out / LIST).open("a", encoding="utf-8") as entries:
            entries.write(json.dumps({"file": path.name, "prompt": job.prompt, "seed": job.seed}) + "\n")
        yield path


def write_mp4(path: Path, frames: Frames, fps: float, *, crf: int = 14) -> None:
    """Write frames (F, H, W, 3), with even sides, as H.264."""
    from fractions import Fraction

    import av

    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("h264", rate=Fraction(round(fps * 1000), 1000), options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
