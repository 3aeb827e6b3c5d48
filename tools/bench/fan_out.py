"""Videos per minute: a plain loop in one process, and two warm workers on a local Ray cluster, by turns.

One thread each, 33 x 96 x 96 pixels, the embedded model. The start of the workers is not counted, it is in `start`.
"""

import statistics
import time
from collections.abc import Iterable
from typing import Any

WORKERS, VIDEOS, ROUNDS = 2, 4, 3


def rows() -> Iterable[dict[str, Any]]:
    """Rows case, videos per minute, start in seconds, equal to the loop's videos."""
    import numpy as np

    from ...models.checkpoints import load_checkpoint
    from ...models.cluster.actors import Actors
    from ...models.cluster.connection import cluster
    from ...models.cluster.fan_out import Maker, OneByOne, Recipe, fan_out, jobs_of
    from ...models.embedded import EMBEDDED

    checkpoint, recipe = load_checkpoint(EMBEDDED), Recipe(steps=12)
    jobs = jobs_of(["a red ball falls on a gray floor", "a blue cube is spinning at sunset"], VIDEOS // 2)
    begin = time.monotonic()
    loop = OneByOne(Maker(checkpoint, recipe))
    loaded = time.monotonic() - begin
    begin = time.monotonic()
    with cluster("local", cpus=WORKERS) as ray:
        pool = Actors(ray, checkpoint, recipe, WORKERS)
        list(fan_out(pool, jobs))  # until each has loaded its model and made one
        started = time.monotonic() - begin
        seconds: dict[str, list[float]] = {"loop": [], "workers": []}
        made = {}
        for _ in range(ROUNDS):
            for name, used in (("loop", loop), ("workers", pool)):
                begin = time.monotonic()
                made[name] = [frames for _, frames in fan_out(used, jobs)]
                seconds[name].append(time.monotonic() - begin)
    equal = all(np.array_equal(*pair) for pair in zip(made["loop"], made["workers"], strict=True))
    for case, name, start in (("plain loop", "loop", loaded), (f"{WORKERS} warm workers", "workers", started)):
        rate = 60 * VIDEOS / statistics.median(seconds[name])
        yield {"case": case, "videos/min": rate, "start": start, "equal": equal}
