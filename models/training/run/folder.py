"""A training run on disk: config.json, log.jsonl, checkpoint.safetensors (weights and optimiser), samples/*.png.

The checkpoint is replaced whole after being written beside the old one; a run that is killed continues from the last.
Workers that split the model write a folder checkpoint-<steps> of parts instead; each kind continues as the other.
Every random choice of a step comes from a generator seeded by (seed, step), so nothing else needs to be remembered.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...building import check_finite
from ...files import read_json, replacing, write_json
from ...partials import remove_left_over
from ...remedies import cut
from ..optim.layout import newest
from ..optim.optimiser import EMA
from .logs import Log, open_logs


class Stateful(Protocol):
    """What a checkpoint carries beside the average: an optimiser, or several together."""

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Continue from `state()`; KeyError when it belongs to another model."""


class Run:
    """The folder of one run. Opening an existing one checks that its config is the same and that nobody else is at it.

    config: settings, and marks of what the run is made from (MADE_FROM). writes: False for the workers of a parallel
    run that leave the files to the first. assumed: what entries that did not exist when a run was begun were then.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], *, writes: bool = True, assumed: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.log = folder / "log.jsonl"
        self.writes = writes
        self.config = config
        self.logs: list[Log] = []
        self.meta: dict[str, Any] = {}  # for the header of the models that it leaves
        self.started = time.time()
        self.lock: IO[str] | None = None
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = claim(folder)
            self._begin(config, assumed or {})

    def file(self, name: str) -> Path:
        """The path of a file to write in the folder. ValueError when the folder was removed or replaced meanwhile."""
        try:
            same = self.lock is None or os.path.samestat(os.fstat(self.lock.fileno()), (self.folder / "lock").stat())
        except OSError:
            same = False
        if not same:
            raise ValueError(
                f"the folder {self.folder} was removed or replaced while this run was going on: nothing more is written"
            )
        return self.folder / name

    def _begin(self, config: dict[str, Any], assumed: Mapping[str, Any]) -> None:
        file, checkpoint = self.folder / "config.json", newest(self.folder)
        before = read_json(file, dict, advice=ELSEWHERE) if file.exists() else None
        if before is not None and checkpoint is not None:
            other = differences({**assumed, **before}, config, self.folder)
            if other:
                raise ValueError(f"{other}: choose another name (--out) for this one")
        remove_left_over(self.folder)
        if before != config:
            write_json(file, config, indent=1)
        if checkpoint is None and before is not None:
            self._forget()
        if self.log.exists() and not self.log.read_bytes().endswith(b"\n"):
            with self.log.open("a", encoding="utf-8") as log_file:
                log_file.write("\n")  # a kill may have cut a line short: the next must not stick to it

    def _forget(self) -> None:
        """Remove what a run left that never got to its first checkpoint: it begins anew."""
        self.log.unlink(missing_ok=True)
        for kind in ("averages/*.safetensors", "early.safetensors", "samples/*.png"):
            for path in self.folder.glob(kind):
                path.unlink()

    def sample_file(self, step: int) -> Path:
        """The picture after `step` steps, the last file that a report writes."""
        return self.file("samples") / f"{step:06d}.png"

    def unreported(self, step: int) -> bool:
        """Whether a kill came between the checkpoint after `step` steps and the end of its report."""
        return not self.sample_file(step).exists()

    def record(self, **values: float) -> None:
        """Append one line to log.jsonl."""
        if not self.writes:
            return
        entry = {"time": round(time.time() - self.started, 1), **values}
        with self.file(self.log.name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        known = {name: value for name, value in values.items() if name != "step"}
        for log in self.logs:
            log.values(int(values.get("step", 0)), known)

    def log_to(self, names: str, first: int) -> None:
        """Also keep a log of these kinds ("tensorboard,wandb"); `first`: steps done so far."""
        if self.writes:
            self.logs = open_logs(names, self.folder, self.config, first)

    def show(self, step: int, path: Path) -> None:
        """Give a picture to the logs."""
        for log in self.logs:
            log.picture(step, path)

    def close(self) -> None:
        """Write the logs out."""
        for log in self.logs:
            log.close()
        self.logs = []

    def save(self, step: int, optimiser: Stateful, average: EMA) -> None:
        """Replace the checkpoint by the state after `step` steps; all workers that split the model must call it."""
        if self.writes or average.layout.split:
            average.layout.write(self.file(""), step, state_of(optimiser, average))

    def resume(self, optimiser: Stateful, average: EMA) -> int:
        """Load the checkpoint if there is one; returns the number of steps done. ValueError for another model's."""
        found = newest(self.folder) if self.writes or average.layout.split else None
        if found is None:
            return 0
        path, step = found
        try:
            expected = state_of(optimiser, average)
            tensors = average.layout.read(path, expected)
            if not path.is_dir():  # parts are compared where they are read
                check_state(tensors, expected)
            optimiser.load(tensors, step)
            for name, weight in average.items():
                weight.copy_(tensors[f"ema.{name}"])
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{path} belongs to another model ({cut(str(error))}): choose another --out") from error
        return step


def check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """KeyError unless a checkpoint has the state of this model, in its shapes; ValueError where it is not finite."""
    for name, tensor in expected.items():
        if name not in found or found[name].shape != tensor.shape:
            raise KeyError(f"{name} is missing or has another shape")
    check_finite({name: found[name] for name in expected}, "checkpoint")


def state_of(optimiser: Stateful, average: EMA) -> dict[str, Tensor]:
    """Everything that a run needs to continue, as kind.parameter -> tensor."""
    return optimiser.state() | {f"ema.{name}": weight for name, weight in average.items()}


def generator(seed: int, step: int) -> torch.Generator:
    """The CPU generator of one step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1))


def strip(rows: list[NDArray[np.uint8]], path: Path, columns: int = 9) -> None:
    """Save clips (F, H, W, 3) of equal size as rows of evenly spaced frames in one PNG."""
    pictures = []
    for frames in rows:
        chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
        pictures.append(
            np.concatenate([np.pad(frames[i], ((1, 1), (1, 1), (0, 0)), constant_values=255) for i in chosen], axis=1)
        )
    with replacing(path) as partial:
        Image.fromarray(np.concatenate(pictures)).save(partial, format="PNG")


ELSEWHERE = "mend it, or choose another folder (--out)"
MADE_FROM = {  # marks in a config -> what they stand for, in words
    "vae": "the VAE",
    "clips": "the clips",
    "captions": "the captions",
    "init": "the model that it started from",
    "data": "the clips",
    "shards": "the clips or their captions",
}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> str:
    """How the config of a run differs from the one it was begun with, for people; empty where it does not."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    settings = [name for name in names if name not in MADE_FROM or name not in before or name not in now]
    made_from = [name for name in names if name not in settings]
    if made_from != ["shards"]:  # their names change with each of the others, and the captions with the clips
        follows = {"shards", *(["captions"] if "clips" in made_from else [])}
        made_from = [name for name in made_from if name not in follows]
    changed = " and ".join(dict.fromkeys(MADE_FROM[name] for name in MADE_FROM if name in made_from))
    if not settings:
        return f"{changed} changed since the run in {folder} began" if changed else ""
    more = f", and {changed} changed since it began" if changed else ""
    return f"{folder} holds a run with other settings ({', '.join(settings)}){more}"


def saves_after(step: int, steps: int, save_every: int) -> bool:
    """Whether a checkpoint of a run of `steps` steps is written after `step` of them."""
    return step > 0 and (step % save_every == 0 or step == steps)


_claimed: dict[Path, IO[str]] = {}


def claim(folder: Path) -> IO[str]:
    """Keep other processes out of a run folder as long as this one lives; returns its lock, open.

    ValueError when another process is in it already.
    """
    known = _claimed.get(folder.resolve())
    if known is not None and (folder / "lock").exists():
        return known
    file = (folder / "lock").open("a+", encoding="utf-8")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # a file system without locks goes on without one
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            file.close()
            raise ValueError(
                f"another process is training in {folder}: wait for it, stop it, or choose another --out folder"
            ) from error
    _claimed[folder.resolve()] = file
    return file
