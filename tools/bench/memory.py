"""Memory of encoding, decoding and extending to 1, 10 and 60 s of video, and of a second pass at larger sizes.

The growth of a fresh process's memory.

The video is 96 x 96 pixels at 12 frames a second, made and thrown away frame by frame, so only the VAE's own memory
counts; to extend is to generate window by window and to decode straight into an mp4, through the nodes, so that takes
in the transformer and the video encoder. A second pass goes over a short clip, made larger, in tiles as large as the
clip was, or in one piece. `peak_mb` is the peak of resident memory while it works minus what the process
held before, with the weights already in place.
The C library is told to return freed memory at once, so that the number is what is in use and not what is hoarded.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...models.files import parsed_json
from .peak import FPS, SIDE, Peak, resident_mb

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 4  # frames, and one latent of them, at a time


def rows() -> Iterable[dict[str, Any]]:
    """Rows name, seconds (of video), peak_mb, cpu_s."""
    for task in ("encode", "decode", "extend"):
        for seconds in (1, 10, 60):
            yield measured(task, seconds)
    for task in ("finer", "finer_whole"):
        for scale in (1, 2, 4):
            yield measured(task, scale)


def measured(task: str, amount: int, preset: str = "toy") -> dict[str, Any]:
    """One row, from a process of its own: of so many seconds, or of a clip so many times larger."""
    command = [sys.executable, str(ROOT / "tools" / "pack.py"), "tools.bench.memory", task, str(amount), preset]
    # glibc hoards freed blocks, the more the longer a program runs; this makes it give them back at once
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"measuring {task} at {amount} failed:\n{done.stderr[-2000:]}")
    row: dict[str, Any] = parsed_json(done.stdout.strip().splitlines()[-1], "the measurement", dict)
    return row


def measure(task: str, amount: int, preset: str) -> dict[str, Any]:
    """One row, in this process."""
    begin = time.process_time()
    if task == "extend":
        from . import extension

        row = extension.measure(amount, preset)
    elif task in ("finer", "finer_whole"):
        from . import finer

        row = finer.measure(amount, preset, tile=float(task == "finer"))
    elif task == "stream":
        from . import rolling

        row = rolling.measure(amount)
    else:
        row = streamed(task, amount, preset)
    row.setdefault("cpu_s", time.process_time() - begin)
    return row


def streamed(task: str, seconds: int, preset: str) -> dict[str, Any]:
    """Encode or decode a stream of noise and watch memory."""
    import torch

    from ...models.vae.autoencoder import PRESETS, VideoVAE

    torch.set_num_threads(1)
    model = VideoVAE(PRESETS[preset]).eval().requires_grad_(False)
    work = model.encode_stream if task == "encode" else model.decode_stream
    with torch.inference_mode():
        before, begin = resident_mb(), time.process_time()
        with Peak() as peak:
            for part in work(stream(task, seconds)):
                del part
    return {"name": task, "seconds": seconds, "peak_mb": peak.value - before, "cpu_s": time.process_time() - begin}


def stream(task: str, seconds: int) -> Iterator[Any]:
    """Noise in place of a video: 1 + 4k frames in pieces, or their latents."""
    import torch

    pieces = seconds * FPS // CHUNK
    if task == "decode":
        for _ in range(1 + pieces):
            yield torch.randn(1, 16, 1, SIDE // 8, SIDE // 8)
        return
    for index in range(1 + pieces):
        yield torch.rand(1, 3, CHUNK if index else 1, SIDE, SIDE) * 2 - 1


def main() -> None:
    """Measure one case and print it as JSON."""
    task, seconds, preset = sys.argv[1:]
    print(json.dumps(measure(task, int(seconds), preset)))


if __name__ == "__main__":
    main()
