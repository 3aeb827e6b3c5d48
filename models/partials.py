"""Names of files that are being written, and the removal of those whose writers were killed.

A name tells the process and the machine that writes: on a drive that machines share, one cannot know whether a process
of another still lives. Standard library only, as `files`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

DAY = 86400.0  # seconds after which what nobody touches counts as left over
_NAME = re.compile(r"\..*\.(?P<process>\d+)(?:-\d+)?(?:@(?P<machine>[0-9a-f]{8}))?\.partial")
_numbers = itertools.count()
_looked_through: set[Path] = set()


def partial_name(path: Path) -> Path:
    """A name beside a path that nobody else writes under."""
    return path.with_name(f".{path.name[:50]}.{os.getpid()}-{next(_numbers)}@{machine()}.partial")


def remove_left_over(folder: Path) -> None:
    """Remove all that killed processes left half written in a folder that no other process writes to now."""
    for path in folder.rglob(".*.partial"):
        if _NAME.fullmatch(path.name):
            _remove(path)


def remove_stale(folder: Path) -> None:
    """Remove what killed processes left half written, once a process; what lives or is young may belong to another."""
    if folder in _looked_through:
        return
    _looked_through.add(folder)
    for entry in os.scandir(folder):
        with suppress(OSError):
            found = _NAME.fullmatch(entry.name)
            ours = found is not None and found["machine"] == machine()
            if found and ((ours and _is_gone(int(found["process"]))) or time.time() - entry.stat().st_mtime > DAY):
                _remove(Path(entry.path))


@cache
def machine() -> str:
    """Eight hexadecimal digits that are the same for two processes only where they see each other's numbers: on one
    machine since it was started, and in one container."""
    told = [platform.node()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_bytes().decode("ascii", "replace"))
    with suppress(OSError):
        told.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - it is no path
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_gone(process: int) -> bool:
    """Whether no process of this machine has this number; False where the system does not tell."""
    if os.name == "nt":  # where asking would end the process
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False
