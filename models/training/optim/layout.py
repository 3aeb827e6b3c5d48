"""How a model's parameters lie in this process, and what follows from it: here whole, in sharded.py split.

The optimiser and the average work on what this process holds; a layout knows what has to be done together, and how the
state is written and read.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...files import opened, read_tensors, write_tensors
from .muon import orthogonalise
from .parts import load_parts

FILE = "checkpoint.safetensors"
PARTS = re.compile(r"checkpoint-(\d{8})")


class Layout:
    """Parameters that every process holds whole."""

    split = False
    workers = 1  # among which each parameter is split

    def local(self, tensor: Tensor) -> Tensor:
        """What this process holds of a parameter or gradient, as a plain tensor that shares its memory."""
        return tensor

    def shape(self, name: str, local: Tensor) -> torch.Size:  # noqa: ARG002 - split ones go by the name
        """The shape of the whole parameter."""
        return local.shape

    def total(self, value: Tensor) -> Tensor:
        """A sum over what this process holds -> the sum over the whole model."""
        return value

    def orthogonalised(self, matrices: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Muon's update directions for named matrices, in any order; those of one shape are made together."""
        alike: dict[tuple[torch.Size, torch.dtype], list[tuple[str, Tensor]]] = {}
        for name, matrix in matrices:
            alike.setdefault((matrix.shape, matrix.dtype), []).append((name, matrix))
        for group in alike.values():
            directions = orthogonalise(torch.stack([matrix.flatten(1) for _, matrix in group]))
            for (name, matrix), direction in zip(group, directions, strict=True):
                yield name, direction.view_as(matrix)

    def whole(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Named tensors as whole ones in the CPU's memory. All workers must call it."""
        for name, tensor in tensors:
            yield name, tensor.cpu()

    def write(self, folder: Path, step: int, state: Mapping[str, Tensor]) -> None:
        """Replace the checkpoint in a run folder by the state (kind.parameter -> tensor) after `step` steps."""
        write_tensors(folder / FILE, state, {"step": str(step)})
        forget_others(folder, folder / FILE)

    def read(self, path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a checkpoint, split or not. KeyError or RuntimeError when it lacks some of `state`'s."""
        if not path.is_dir():
            return read_tensors(path)[0]
        found = {key: torch.empty_like(tensor, device="cpu") for key, tensor in state.items()}
        load_parts(path, found, together=False)
        return found


def newest(folder: Path) -> tuple[Path, int] | None:
    """The checkpoint in a run folder and the number of steps done: one file, or a folder of parts."""
    found = [(path, int(match[1])) for path in folder.glob("checkpoint-*") if (match := PARTS.fullmatch(path.name))]
    if (folder / FILE).exists():
        found.append((folder / FILE, saved_step(folder / FILE)))
    return max(found, key=lambda entry: entry[1], default=None)


def saved_step(path: Path) -> int:
    """The number of steps in a checkpoint file's header."""
    with opened(path) as file:
        said = (file.metadata() or {}).get("step", "0")
    if not re.fullmatch(r"\d{1,12}", said, re.ASCII):
        raise ValueError(f"{path} does not say after which step it was written: choose another --out, or remove it")
    return int(said)


def forget_others(folder: Path, kept: Path) -> None:
    """Remove all checkpoints of a run folder but one; a kill may have left a second, older one."""
    for path in folder.glob("checkpoint*"):
        if path != kept and PARTS.fullmatch(path.name.removesuffix(".partial")):
            shutil.rmtree(path, ignore_errors=True)
    if kept != folder / FILE:
        (folder / FILE).unlink(missing_ok=True)
