"""Checkpoints that all workers of a split model write together: folders of safetensors parts."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from ...files import take_place

TOO_OLD = "splitting a model among workers (--shard) needs torch 2.9 or newer: update it, or leave --shard out"


def save_parts(folder: Path, state: Mapping[str, Any]) -> None:
    """Write DTensors as a folder of safetensors files, one by each worker; it gets its name when all are written."""
    try:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save
    except ImportError as error:
        raise ValueError(TOO_OLD) from error
    first, partial = distributed.get_rank() == 0, folder.with_name(folder.name + ".partial")
    if first:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while it wrote
    distributed.barrier()
    save(dict(state), storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True))
    if first:
        take_place(partial, folder)
    distributed.barrier()


def load_parts(folder: Path, state: Mapping[str, Any], *, together: bool) -> None:
    """Fill tensors in place from a folder of parts: DTensors by all workers together, or whole ones by this process.

    KeyError or RuntimeError when it belongs to another model.
    """
    try:
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
        from torch.distributed.checkpoint.state_dict_loader import load
    except ImportError as error:
        raise ValueError(TOO_OLD) from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(dict(state), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not together)
    except CheckpointException as error:
        causes = "; ".join(str(cause[0]) for cause in error.failures.values())
        raise KeyError(causes) from error
