"""Make what the next steps need while this one is computed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")
AHEAD = defaultdict(lambda: 3, cpu=0)  # batches that are drawn while a step is computed, by the kind of device


def ahead(make: Callable[[int], Made], numbers: Iterable[int], *, threads: int) -> Iterator[Made]:
    """make(n) for each of the numbers, in order; up to `threads` of them are made at once, before they are asked for.

    `make` must depend on its number alone, so that who makes it, and when, changes nothing. threads 0: each is made
    when it is asked for, as on a CPU, which has nothing else to do meanwhile. What `make` raises is raised at its turn.
    """
    if not threads:
        yield from map(make, numbers)
        return
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
