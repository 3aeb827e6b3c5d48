"""One training run shared by the workers of a Ray cluster, with Ray Train: the same run as under torchrun."""

from __future__ import annotations

import argparse
import shutil
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..extras import install
from ..training.__main__ import parser, run
from ..training.dit.workers import LOST
from ..training.run.stopping import StoppedError, asked_to_stop, stop_on_file, stop_on_signals
from .connection import cluster

STOP = "stop"  # a file in the run folder that tells all workers to end after their step


def train(arguments: Sequence[str], address: str, workers: int, restarts: int) -> None:
    """Run a `train dit` command on a cluster. A worker that dies costs a restart from the last checkpoint.

    The paths in `arguments` must lead to the same files on all machines. StoppedError when this process was asked to
    end; ValueError for wrong arguments, and when workers died more than `restarts` times.
    """
    args = parser().parse_args(list(arguments))
    if args.command != "dit":
        raise ValueError(f"`{args.command}` runs in one process: only `dit` is shared by several workers")
    settings = {key: value.resolve() if isinstance(value, Path) else value for key, value in vars(args).items()}
    stop: Path = settings["out"] / STOP
    stop.unlink(missing_ok=True)
    with cluster(address, cpus=workers):
        stop_on_signals(parent=args.with_parent)  # after Ray has set its own handlers
        settings["with_parent"] = 0
        watching = threading.Event()
        threading.Thread(target=_pass_on, args=(stop, watching), daemon=True).start()
        try:
            for left in range(restarts, -1, -1):
                if _finished(settings, workers, left):
                    break
        finally:
            watching.set()
            stop.unlink(missing_ok=True)
            shutil.rmtree(settings["out"] / "ray", ignore_errors=True)
    if asked_to_stop():
        raise StoppedError("stopped; the same command continues there")


def _pass_on(stop: Path, ended: threading.Event) -> None:
    """Tell the workers when this process is asked to end."""
    while not ended.wait(0.5):
        if asked_to_stop():
            stop.parent.mkdir(parents=True, exist_ok=True)
            stop.touch()


def _finished(settings: dict[str, Any], workers: int, left: int) -> bool:
    """Start the workers and wait; whether they came to the end rather than lost one of them."""
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import WorkerGroupError
    except ImportError as error:
        raise ValueError(f"this needs Ray Train ({error}): {install('ray[train]')}") from error
    gpu = str(settings["device"]).startswith("cuda")
    trainer = TorchTrainer(
        work,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        run_config=RunConfig(name=uuid.uuid4().hex, storage_path=str(settings["out"] / "ray")),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        causes = [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
        for cause in causes:
            if isinstance(cause, (ValueError, OSError)) and not isinstance(cause, ConnectionError):
                raise type(cause)(str(cause)) from error  # it would happen again
        if not left:
            raise ValueError(f"{LOST} ({type(causes[0]).__name__})") from error
        return False
    return True


def work(settings: dict[str, Any]) -> None:
    """What each worker runs; Ray has joined them as torchrun would have."""
    stop_on_file(settings["out"] / STOP)
    try:
        run(argparse.Namespace(**settings))
    except StoppedError:
        return
