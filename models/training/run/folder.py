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
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...building import check_finite
from ...files import read_json, replacing, write_json
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

    writes: False for the workers of a parallel run that leave the files to the first.
    assumed: what settings that did not exist when a run was begun were then.
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
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            claim(folder)
            self._begin(config, assumed or {})

    def _begin(self, config: dict[str, Any], assumed: Mapping[str, Any]) -> None:
        file, checkpoint = self.folder / "config.json", newest(self.folder)
        before = read_json(file, dict, advice=ELSEWHERE) if file.exists() else None
        known = {} if before is None else {**assumed, **before}
        if known != config:
            differing = sorted(k for k in config.keys() | known.keys() if config.get(k) != known.get(k))
            if before is not None and checkpoint is not None:
                raise ValueError(
                    f"{self.folder} holds a run with other settings ({', '.join(differing)}): "
                    "choose another name (--out) for this one"
                )
            write_json(file, config, indent=1)
            if checkpoint is None:
                self.log.unlink(missing_ok=True)  # of a run that never got to its first checkpoint
        if self.log.exists() and not self.log.read_bytes().endswith(b"\n"):
            with self.log.open("a", encoding="utf-8") as log_file:
                log_file.write("\n")  # a kill may have cut a line short: the next must not stick to it

    def record(self, **values: float) -> None:
        """Append one line to log.jsonl."""
        if not self.writes:
            return
        entry = {"time": round(time.time() - self.started, 1), **values}
        with self.log.open("a", encoding="utf-8") as file:
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
            average.layout.write(self.folder, step, state_of(optimiser, average))

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
_claimed: dict[Path, Any] = {}


def claim(folder: Path) -> None:
    """Keep other processes out of a run folder as long as this one lives. ValueError when one is in it already."""
    if folder.resolve() in _claimed:
        return
    file = (folder / "lock").open("a+", encoding="utf-8")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise ValueError(
                f"another process is training in {folder}: wait for it, stop it, or choose another --out folder"
            ) from error
        return  # a file system without locks
    _claimed[folder.resolve()] = file
