"""A stream of so many seconds into a file. A part of the benchmark of a stream."""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ...models.endless import endless
from ...models.generate import Models
from ...models.media.writer import mp4_writer
from .peak import FPS, Peak, resident_mb


def measure(seconds: int) -> dict[str, Any]:
    """What streaming so long into a file takes in this process, with the embedded model in its form for few steps."""
    torch.set_num_threads(1)
    models = Models.load(few_steps=True)
    with tempfile.TemporaryDirectory() as folder:
        before = resident_mb()
        with Peak() as peak, mp4_writer(Path(folder) / "stream.mp4", FPS) as file:
            for frames, _ in islice(endless(models, "0: a red ball rolls to the right"), 1 + seconds * FPS // 4):
                file.write(frames)
    return {"name": "stream", "seconds": seconds, "peak_mb": peak.value - before}
