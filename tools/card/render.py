"""Render clips of the toy world on many cores: `python3 tools/pack.py tools.card.render --work DIR`.

Each file of the folder `rendered` holds CLIPS clips of one size as they are stored, their captions and classes.
"""

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.clips.toy import toy_example
from ...models.files import parsed_json, read_tensors, write_tensors
from ...models.geometry import ClipSize

CLIPS = 100  # in a file
WAITING = 400  # files that may wait to be encoded: the disk is not without end
# clip sizes with their shares of the steps of training, and of the clips
MIX = {
    "128x128x33": 0.26,
    "96x96x33": 0.25,
    "64x64x33": 0.05,
    "96x64x33": 0.05,
    "64x96x33": 0.05,
    "128x96x33": 0.05,
    "96x128x33": 0.05,
    "64x64x65": 0.06,
    "96x96x65": 0.05,
    "64x64x32c": 0.03,
    "96x96x32c": 0.07,
    "128x128x32c": 0.03,
}
TINY = {"32x32x9": 0.8, "32x32x8c": 0.2}


class Rendered(NamedTuple):
    """What a file holds."""

    frames: NDArray[np.uint8]  # (n, F, H, W, 3)
    captions: list[list[str]]
    classes: list[str]
    truth: NDArray[np.float16]  # (n, T, H/16, W/16, C)


def order(mix: dict[str, float], count: int) -> list[tuple[str, int]]:
    """Files to render, (size, number of the first clip): any beginning of the list has the shares of the mix."""
    made = dict.fromkeys(mix, 0)
    tasks = []
    for _ in range(count):
        size = min(mix, key=lambda name: (made[name] + 1) / mix[name])
        tasks.append((size, made[size] * CLIPS))
        made[size] += 1
    return tasks


def file_of(folder: Path, size: str, start: int) -> Path:
    """Where a file of the rendered clips lies."""
    return folder / f"{size}-{start:06d}.safetensors"


def render_file(folder: Path, size: str, start: int, count: int) -> None:
    """Render one file, unless it is there."""
    path = file_of(folder, size, start)
    parsed = ClipSize.parse(size)
    seeds = range(start, start + count)
    clips = [toy_example(seed, parsed, truth=True) for seed in seeds]
    told = json.dumps([[clip.captions for clip in clips], [clip.kind for clip in clips]])
    parts = {"frames": [clip.frames for clip in clips], "truth": [clip.truth for clip in clips]}
    write_tensors(path, {name: torch.from_numpy(np.stack(part)) for name, part in parts.items()}, {"told": told})


def read_file(path: Path) -> Rendered:
    """The clips of a file."""
    held, header = read_tensors(path)
    captions, classes = parsed_json(header["told"], f"the header of {path.name}", list)
    return Rendered(held["frames"].numpy(), captions, classes, held["truth"].numpy())


def work(job: tuple[Path, str, int, int]) -> None:
    """One file, in a process of its own with one thread; it waits while too many files do."""
    folder, size, start, count = job
    torch.set_num_threads(1)
    while sum(1 for _ in folder.glob("*.safetensors")) > WAITING:
        time.sleep(1)
    done = folder.parent / "encoded" / f"{size}-{start:06d}"
    if not done.exists() and not file_of(folder, size, start).exists():
        render_file(folder, size, start, count)


def main() -> None:
    """Render until the given number of files is there."""
    parser = argparse.ArgumentParser(prog="tools.card.render")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    parser.add_argument("--files", type=int, default=1500)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    folder = options.work / "rendered"
    folder.mkdir(parents=True, exist_ok=True)
    count = 10 if options.tiny else CLIPS
    jobs = [(folder, size, start, count) for size, start in order(TINY if options.tiny else MIX, options.files)]
    with multiprocessing.get_context("spawn" if options.processes < 2 else "fork").Pool(options.processes) as pool:
        for _ in pool.imap_unordered(work, jobs):
            pass


if __name__ == "__main__":
    main()
