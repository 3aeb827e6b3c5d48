"""One at a time: a lock file that the system frees when the process that holds it ends, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .terminal import say

if os.name == "nt":
    import msvcrt
    import time

    def _try(number: int) -> bool:
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _take(number: int, *, wait: bool) -> bool:
        while not (taken := _try(number)) and wait:
            time.sleep(0.2)
        return taken
else:
    import fcntl

    def _take(number: int, *, wait: bool) -> bool:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


_held: dict[Path, int] = {}


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Wait until no other process is inside, and say so. Entering again from within the same process is fine."""
    if path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _take(number, wait=False):
            say(f"another start is {what}, waiting for it ...")
            _take(number, wait=True)
        _held[path] = number
        yield
    finally:
        _held.pop(path, None)
        os.close(number)


def handed_on() -> dict[str, tuple[int, ...]]:
    """Arguments of Popen that let a process hold our turns too: it may outlive us, and is still at work then."""
    return {} if os.name == "nt" else {"pass_fds": tuple(_held.values())}
