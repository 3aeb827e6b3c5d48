"""Ending a run in good order: the step under way is finished, the checkpoint written, and the process leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

_asked = threading.Event()
_parent: list[int] = []
_file: list[Path] = []


class StoppedError(Exception):
    """A run ended because it was asked to; its last checkpoint is written and the same command continues it."""

    @classmethod
    def after(cls, steps: int) -> StoppedError:
        """Of a run that counts steps."""
        return cls(f"stopped after step {steps}; the same command continues there")


def stop_on_signals(*, parent: int = 0) -> None:
    """Let Ctrl-C and SIGTERM end the run after its step; a second Ctrl-C ends it at once.

    parent: also end when the process of this id, which started this one, is gone. It is told and not asked of the
    system here: it may have gone while torch was imported. 0: nobody in particular.
    Under torchrun Ctrl-C comes twice, from the terminal and from torchrun, which itself ends those that take too long.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask)
    _parent[:] = [parent] if parent else []


def stop_on_file(path: Path) -> None:
    """Also end when this file appears: workers on other machines get no signals."""
    _file[:] = [path]


def _ask(number: int, _frame: object) -> None:
    if number == signal.SIGINT and _asked.is_set() and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise KeyboardInterrupt
    _asked.set()


def asked_to_stop() -> bool:
    """Whether the run should end after this step."""
    return _asked.is_set() or any(is_gone(parent) for parent in _parent) or any(path.exists() for path in _file)


def is_gone(parent: int) -> bool:
    """Whether the process that started this one, whose id is `parent`, has ended."""
    if sys.platform == "win32":
        import ctypes

        synchronise, ended = 0x00100000, 0
        process = ctypes.windll.kernel32.OpenProcess(synchronise, False, parent)
        state = ctypes.windll.kernel32.WaitForSingleObject(process, 0) if process else ended
        ctypes.windll.kernel32.CloseHandle(process)
        return bool(state == ended)
    return os.getppid() != parent  # orphans are given another one


def check_stop() -> None:
    """Raise StoppedError when asked to: for work that keeps what it has done so far by itself."""
    if asked_to_stop():
        raise StoppedError("stopped; the same command continues where it was")
