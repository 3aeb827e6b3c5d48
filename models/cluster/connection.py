"""Connecting to a Ray cluster, or starting one on this machine for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from ..extras import install

ROOT = Path(__file__).resolve().parents[2]
PACK = __name__.removesuffix(".models.cluster.connection")  # what the pack is called in this process
LOCAL = "local"
SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
MAX_SOCKET_PATH = 103
PREFIX = "ray-"
# the longest path that Ray makes in its folder, with a process id of seven digits
BEHIND = f"/{PREFIX}abcdefgh/session_2026-11-27_09-22-29_093534_1234567/sockets/plasma_store"
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
            f"this needs Ray ({error}): {install('ray[train]')}  with the Python at {sys.executable}"
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
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=folder_for_sockets())
        settings |= {"address": LOCAL, "num_cpus": cpus, "_temp_dir": folder, "_node_ip_address": "127.0.0.1"}
    else:
        settings |= {"address": address}
        environment |= {"working_dir": str(ROOT), "excludes": LEFT_OUT}
    try:
        try:
            with only_on_loopback() if address == LOCAL else nullcontext():
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


def folder_for_sockets() -> str:
    """Where a cluster of this machine may keep its sockets: their paths are limited, to 103 bytes on macOS.

    The folder for temporary files of a user of macOS is too long for what Ray puts behind it. ValueError when all are.
    """
    folders = [tempfile.gettempdir(), "/tmp"]
    room = MAX_SOCKET_PATH - len(BEHIND)
    for folder in folders:
        if sys.platform == "win32" or (len(os.fsencode(folder)) <= room and Path(folder).is_dir()):
            return folder
    raise ValueError(
        f"the folder for temporary files, {folders[0]}, has too long a path for Ray's sockets (more than "
        f"{room} characters): set TMPDIR to a shorter one"
    )


@contextmanager
def only_on_loopback() -> Iterator[None]:
    """Let a cluster that starts here listen on this machine alone.

    Ray does so on Windows and macOS, where this switch says that it is no cluster of several machines; elsewhere it
    takes the loopback's address for a mistake and listens on every network. It reads the switch when it is imported.
    """
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = getattr(ray_constants, "ENABLE_RAY_CLUSTER", True), False
    kept = os.environ.get(SWITCH)
    os.environ[SWITCH] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        if kept is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = kept


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
