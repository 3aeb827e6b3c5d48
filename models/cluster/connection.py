"""Connecting to a Ray cluster, or starting one on this machine for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACK = __name__.removesuffix(".models.cluster.connection")  # what the pack is called in this process
LOCAL = "local"
# what the machines of a cluster do not need of the checkout
LEFT_OUT = [".git", ".host", ".link", ".venv", "/output", "/runs", "/tests", "/web", "/workflows", "__pycache__"]


def import_ray() -> ModuleType:
    """The package. ValueError, in one sentence, where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 unless told: workers here would starve beside other work
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f'this needs Ray ({error}): install it with  pip install "ray[train]"  for the Python at {sys.executable}'
        ) from error
    return ray


@contextmanager
def cluster(address: str, cpus: int) -> Iterator[ModuleType]:
    """The `ray` module, connected to the cluster at `address`, or with "local" to one of `cpus` CPUs on this machine.

    A local one ends with the block and leaves nothing. Workers elsewhere get this checkout's code from here and need
    the same Python packages. ValueError when nothing answers at the address.
    """
    ray = import_ray()
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    environment: dict[str, Any] = {"worker_process_setup_hook": loader(None if address != LOCAL else str(ROOT), PACK)}
    folder = ""
    if address == LOCAL:
        folder = tempfile.mkdtemp(prefix="ray-")  # short: sockets lie in it, and their paths are limited
        settings |= {"address": LOCAL, "num_cpus": cpus, "_temp_dir": folder, "_node_ip_address": "127.0.0.1"}
    else:
        settings |= {"address": address}
        environment |= {"working_dir": str(ROOT), "excludes": LEFT_OUT}
    try:
        try:
            ray.init(runtime_env=environment, **settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"no Ray cluster answers at {address} ({error}): start one with  ray start --head"
            ) from error
        yield ray
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def loader(root: str | None, name: str) -> Callable[[], None]:
    """What a worker process does first: import the pack under the name it has here, from `root` or its own folder.

    Defined inside, so that it travels by value: where it arrives the pack is not yet there to look it up in.
    """

    def load() -> None:
        import importlib.util
        import sys
        from pathlib import Path

        if name in sys.modules:
            return
        folder = Path(root) if root else Path.cwd()
        path = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(folder)])
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} holds no __init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)

    return load
