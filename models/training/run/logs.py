"""Loss curves for TensorBoard and Weights & Biases, where these are installed and asked for.

Nothing leaves the machine: Weights & Biases writes into the run folder unless the user's own WANDB_MODE says otherwise;
`wandb sync` uploads later.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ...extras import install


class Log(Protocol):
    """A place that numbers and pictures of a run are written to."""

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name after `step` steps."""

    def picture(self, step: int, path: Path) -> None:
        """A strip of samples."""

    def close(self) -> None:
        """Write everything out."""


class TensorBoard:
    """Event files in RUN/tensorboard: `tensorboard --logdir RUN`."""

    def __init__(self, folder: Path, config: Mapping[str, Any], first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run wrote beyond its checkpoint is written again: the reader drops it
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first or None)
        if not first:
            self.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """As in Log."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def picture(self, step: int, path: Path) -> None:
        """As in Log."""
        with Image.open(path) as image:
            self.writer.add_image("samples", np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        """As in Log."""
        self.writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases named like the run folder; the same folder continues the same run."""

    def __init__(self, folder: Path, config: Mapping[str, Any], first: int) -> None:  # noqa: ARG002 - as in TensorBoard
        # it reports errors and figures of its own use even when it is offline, unless this is set before it is imported
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        mark = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        # no record of the program, the repository, the console or the machine
        quiet = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True
        )
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "spacetime"),
            name=folder.name,
            id=mark,
            resume="allow",
            dir=str(folder),
            config=dict(config),
            mode=mode,
            settings=quiet,
        )
        self.run.define_metric("*", step_metric="step")

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """As in Log."""
        self.run.log({**values, "step": step})

    def picture(self, step: int, path: Path) -> None:
        """As in Log."""
        import wandb

        self.run.log({"samples": wandb.Image(str(path)), "step": step})

    def close(self) -> None:
        """As in Log."""
        self.run.finish()


KINDS: dict[str, type[TensorBoard | WeightsAndBiases]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def open_logs(names: str, folder: Path, config: Mapping[str, Any], first: int) -> list[Log]:
    """The logs that "tensorboard,wandb" names, of a run that has done `first` steps."""
    chosen = check_logs(names)
    try:
        return [KINDS[name](folder, config, first) for name in chosen]
    except ImportError as error:
        raise ValueError(
            f"--log {names}: {error.name or error} is not installed; {install(*chosen)}, or leave --log out"
        ) from error


def check_logs(names: str) -> list[str]:
    """Names of logs from "tensorboard,wandb". ValueError for others."""
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in KINDS]
    if unknown:
        raise ValueError(f"there is no log called {unknown[0]}: --log takes {', '.join(KINDS)}, or both with a comma")
    return chosen
