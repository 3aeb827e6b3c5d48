"""Talking to the person at the terminal: one clear line per step, one clear sentence per failure."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..models.remedies import cut, remedy


class Trouble(Exception):  # noqa: N818 - a sentence for the user, not a programming error
    """An expected failure. Its text is the whole message: what is wrong, and what to do."""


class DiskFull(Trouble):
    """No room left; trying something else would not help."""


def say(line: str) -> None:
    """Print one line at once, also when the output goes to a file."""
    print(line, flush=True)


def in_words(error: OSError) -> str:
    """What the system refused, as a sentence with a remedy."""
    return f"{cut(error.filename)}: {remedy(error)}." if error.filename else f"{error}."


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a step that takes a while and say how long it took."""
    print(f"{what} ... ", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - start:.0f} s", flush=True)


class Bar:
    """A progress bar that redraws itself on a terminal and stays silent elsewhere except for a line per stage."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.label = ""
        self.drawn = False

    def show(self, label: str, value: float, total: float) -> None:
        """Draw `value` of `total`; a new label begins a new stage."""
        if not self.live:
            if label != self.label:
                say(f"  {label}")
            self.label = label
            return
        self.label = label
        width = max(10, min(40, shutil.get_terminal_size().columns - len(label) - 20))
        filled = round(width * value / total) if total else 0
        bar = "#" * filled + "." * (width - filled)
        count = f"{value:g}/{total:g}"
        print(f"\r\033[K  {label} [{bar}] {count}", end="", flush=True)
        self.drawn = True

    def clear(self) -> None:
        """Remove the bar, so that the next line starts clean."""
        if self.drawn:
            print("\r\033[K", end="", flush=True)
            self.drawn = False
