"""Memory of this process while something runs."""

from __future__ import annotations

import threading

FPS = 12
SIDE = 96


class Peak:
    """The highest resident memory between entering and leaving, sampled often."""

    def __enter__(self) -> Peak:
        self.value = resident_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.value = max(self.value, resident_mb())

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.value = max(self.value, resident_mb())


def resident_mb() -> float:
    """Resident memory of this process; psutil knows it on every system."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20
