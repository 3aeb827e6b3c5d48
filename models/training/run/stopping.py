"""Ending a run in good order: the step under way is finished, the checkpoint written, and the process leaves."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

_asked = threading.Event()
_parent: list[int] = []
_file: list[Path] = []


class StoppedError(Exception):
    """A run ended because it was asked to; its last checkpoint is written and the same command continues it."""


def stop_on_signals(*, with_parent: bool = False) -> None:
    """Let Ctrl-C and SIGTERM end the run after its step; a second Ctrl-C ends it at once.

    with_parent: also end when the process that started this one is gone (where the system tells; Windows does not).
    Under torchrun Ctrl-C comes twice, from the terminal and from torchrun, which itself ends those that take too long.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask)
    if with_parent:
        _parent.append(os.getppid())


def stop_on_file(path: Path) -> None:
    """Also end when this file appears: workers on other machines get no signals."""
    _file[:] = [path]


def _ask(number: int, _frame: object) -> None:
    if number == signal.SIGINT and _asked.is_set() and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise KeyboardInterrupt
    _asked.set()


def asked_to_stop() -> bool:
    """Whether the run should end after this step."""
    orphaned = bool(_parent and os.getppid() != _parent[0])
    return _asked.is_set() or orphaned or any(path.exists() for path in _file)


def check_stop() -> None:
    """Raise StoppedError when asked to: for work that keeps what it has done so far by itself."""
    if asked_to_stop():
        raise StoppedError("stopped; the same command continues where it was")
