"""Read the weights of published files: safetensors, and PyTorch's own format without running anything inside it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import read_tensors

ENDINGS = (".safetensors", ".sft", ".pt", ".pth", ".bin", ".ckpt")
INSIDE = ("ema", "state_dict", "model")  # under which training scripts keep weights, the best first


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; of a training checkpoint its averaged weights where it has them.

    ValueError, in one sentence, for a file that is cut off, holds no weights or wants to run code.
    """
    if path.suffix.lower() in (".safetensors", ".sft"):
        return read_tensors(path)[0]
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} is damaged or holds more than weights, which is never run: take a safetensors file"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"{path.name} is not a whole file of PyTorch weights: download or copy it again") from error
    return tensors_of(content, path.name)


def tensors_of(content: Any, name: str) -> dict[str, Tensor]:
    """The state dict in what a file holds. ValueError when there is none."""
    if isinstance(content, Mapping):
        for key in INSIDE:
            if isinstance(content.get(key), Mapping):
                return tensors_of(content[key], name)
        found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if found:
            return {key.removeprefix("module."): value for key, value in found.items()}
    raise ValueError(f"{name} holds no weights: choose the file of a model")
