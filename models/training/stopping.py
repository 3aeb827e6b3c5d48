"""Ending a run in good order: the step under way is finished, the checkpoint written, and the process leaves."""

from __future__ import annotations

import os
import signal
import threading

_asked = threading.Event()
_parent: list[int] = []


class StoppedError(Exception):
    """A run ended because it was asked to; its last checkpoint is written and the same command continues it."""


def stop_on_signals(*, with_parent: bool = False) -> None:
    """Let Ctrl-C and SIGTERM end the run after its step; a second Ctrl-C ends it at once.

    with_parent: also end when the process that started this one is gone (where the system tells; Windows does not).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask)
    if with_parent:
        _parent.append(os.getppid())


def _ask(number: int, _frame: object) -> None:
    if number == signal.SIGINT and _asked.is_set():
        raise KeyboardInterrupt
    _asked.set()


def asked_to_stop() -> bool:
    """Whether the run should end after this step."""
    return _asked.is_set() or bool(_parent and os.getppid() != _parent[0])


def check_stop() -> None:
    """Raise StoppedError when asked to: for work that keeps what it has done so far by itself."""
    if asked_to_stop():
        raise StoppedError("stopped; the same command continues where it was")
