"""Batches of videos by the workers of a Ray cluster, through a process of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.files import write_text
from ..folders import checkpoint_path, temp_file
from ..messages import progress_bar, show_text
from .training import follow, make_room

ADDRESS = "SPACETIME_RAY_ADDRESS"  # of the user's cluster; a workflow cannot name one
ONE_BY_ONE = "Ray is not installed, so the videos were made one after the other, without workers."


def address() -> str:
    """Where the workers are: what the user's environment says, else on this machine; nowhere without Ray."""
    return os.environ.get(ADDRESS, "").strip() or ("local" if find_spec("ray") else "")


class Watcher:
    """Shows on the node how many videos of a batch are written."""

    def __init__(self, folder: Path, total: int) -> None:
        self.folder, self.total, self.bar = folder, total, progress_bar(total)

    def __call__(self) -> None:
        """Look."""
        self.bar.update_absolute(len(list(self.folder.glob("*.npy"))), self.total)


def make_videos(
    node: Any, prompts: Sequence[str], total: int, checkpoint: str, settings: dict[str, Any]
) -> list[Tensor]:
    """IMAGE batches (F, H, W, 3) of a batch of videos in order. An interrupt ends the workers at once.

    settings: options of `models.cluster video`. ValueError with the process's last line when it fails.
    """
    make_room()
    folder = temp_file("_cluster")
    folder.mkdir()
    lines = folder / "prompts.txt"
    write_text(lines, "\n".join(prompts) + "\n")
    arguments = ["models.cluster", "video", "--with-parent", str(os.getpid()), "--raw"]
    arguments += ["--address", address()] if address() else []
    arguments += ["--prompts", str(lines), "--out", str(folder / "videos"), "--checkpoint"]
    arguments.append(str(checkpoint_path(checkpoint)))
    arguments += [f"--{name}={value}" for name, value in settings.items()]
    try:
        follow(node, arguments, folder, Watcher(folder / "videos", total), "ask for fewer workers or smaller videos")
        if not address():
            show_text(node, ONE_BY_ONE)
        made = sorted((folder / "videos").glob("*.npy"))
        return [torch.from_numpy(np.load(path, allow_pickle=False)).float() / 255 for path in made]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
