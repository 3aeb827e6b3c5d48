"""A training run on disk: config.json, log.jsonl, checkpoint.safetensors (weights and optimiser), samples/*.png.

The checkpoint is replaced whole after being written beside the old one; a run that is killed continues from the last.
Every random choice of a step comes from a generator seeded by (seed, step), so nothing else needs to be remembered.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..checkpoints import read_tensors, write_tensors
from .optim import EMA, Optimiser

log = logging.getLogger(__name__)


class Run:
    """The folder of one run. Opening an existing one checks that its config is the same."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoint.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "config.json"
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            differing = sorted(k for k in config.keys() | before.keys() if config.get(k) != before.get(k))
            if differing and self.checkpoint.exists():
                raise ValueError(
                    f"{folder} holds a run with other settings ({', '.join(differing)}): choose another --out folder"
                )
        file.write_text(json.dumps(config, indent=1), encoding="utf-8")
        self.started = time.time()

    def record(self, **values: float) -> None:
        """Append one line to log.jsonl."""
        entry = {"time": round(time.time() - self.started, 1), **values}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def save(self, step: int, optimiser: Optimiser, average: EMA) -> None:
        """Replace the checkpoint by the state after `step` steps."""
        tensors = optimiser.state() | {f"ema.{name}": weight for name, weight in average.items()}
        write_tensors(self.checkpoint, tensors, {"step": str(step)})

    def resume(self, optimiser: Optimiser, average: EMA) -> int:
        """Load the checkpoint if there is one; returns the number of steps done. ValueError for another model's."""
        if not self.checkpoint.exists():
            return 0
        tensors, header = read_tensors(self.checkpoint)
        try:
            optimiser.load(tensors, int(header["step"]))
            for name, weight in average.items():
                weight.copy_(tensors[f"ema.{name}"])
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{self.checkpoint} belongs to another model ({error}): choose another --out") from error
        return int(header["step"])


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
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(pictures)).save(path)
