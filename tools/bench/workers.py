"""Training by one process and by two under torchrun, whole and split among them: the same run, and what each holds.

`held` is the bytes of parameters and optimiser state in one process (the largest of them). The losses and weights are
compared with those of one process at the same batch. Small networks on the CPU: the seconds say what starting and
talking costs there, nothing about GPUs.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...models.files import parsed_json, read_text
from . import resume

LOGGED = ("loss", "validation_loss", "gradient")
ROOT = Path(__file__).resolve().parents[2]


def rows() -> Iterable[dict[str, Any]]:
    """One row per way to run."""
    with tempfile.TemporaryDirectory() as name:
        data = resume.prepare(Path(name))
        arguments = [*resume.dit_arguments(data), "--preset", "S", "--dtype", "bfloat16"]
        whole = data / "one"
        begin = time.monotonic()
        resume.finish(resume.start(arguments, whole))
        one = {"held MB": whole_bytes(whole, bytes_each=2) / 1e6, "seconds": time.monotonic() - begin}
        yield {"case": "one process, DiT-S, bf16", **one, "loss": 0.0, "weights": 0.0}
        for case, extra in (("two, whole in each", []), ("two, split (--shard)", ["--shard"])):
            out, begin = data / case, time.monotonic()
            process = torchrun([*arguments, *extra], out, 2)
            said = process.communicate(timeout=resume.PATIENCE)[1].decode(errors="replace")
            if process.returncode:
                raise SystemExit(said)
            seconds, (losses, weights) = time.monotonic() - begin, apart(whole, out)
            yield {
                "case": case,
                "held MB": max(held(said)) / 1e6,
                "seconds": seconds,
                "loss": losses,
                "weights": weights,
            }


def torchrun(arguments: Sequence[str], out: Path, count: int, restarts: int = 0) -> subprocess.Popen[bytes]:
    """The training command as `count` processes on this machine."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    launcher += ["--max-restarts", str(restarts)]
    command = [sys.executable, *launcher, str(ROOT / "tools" / "pack.py"), "models.training", "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as run.py does
    return subprocess.Popen(
        [*command, *arguments, "--out", str(out)], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )


def on_ray(arguments: Sequence[str], out: Path, count: int, restarts: int = 1) -> subprocess.Popen[bytes]:
    """The training command on `count` workers of a Ray cluster that is started for it on this machine."""
    command = [sys.executable, str(ROOT / "tools" / "pack.py"), "models.cluster", "train", "--address", "local"]
    command += ["--workers", str(count), "--restarts", str(restarts), "--", "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *arguments, "--out", str(out)], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )


def held(said: str) -> list[int]:
    """Bytes of parameters and optimiser state of each worker, from what they logged."""
    return [int(number) for number in re.findall(r"holds (\d+) bytes", said)]


def whole_bytes(run: Path, bytes_each: int = 4) -> int:
    """The same for one process, from its checkpoint: masters and moments in fp32, parameters in `bytes_each`."""
    from ...models.files import read_tensors

    tensors, _ = read_tensors(run / "checkpoint.safetensors")
    state = sum(4 * tensor.numel() for key, tensor in tensors.items() if not key.startswith("ema."))
    return state + sum(bytes_each * tensor.numel() for key, tensor in tensors.items() if key.startswith("master."))


def apart(one: Path, other: Path) -> tuple[float, float]:
    """Greatest difference between two runs' logged losses and between their weights."""
    from ...models.files import read_tensors

    logs = [log_of(folder) for folder in (one, other)]
    weights = [read_tensors(folder / "dit.safetensors")[0] for folder in (one, other)]
    return max(abs(logs[0][key] - logs[1][key]) for key in logs[0]), max(
        float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0]
    )


def log_of(folder: Path) -> dict[tuple[int, str], float]:
    """Losses and gradient norms of a run by step; a step that was done again counts as it was done last."""
    rows = [parsed_json(line, "log.jsonl", dict) for line in read_text(folder / "log.jsonl").splitlines()]
    return {(row["step"], kind): row[kind] for row in rows for kind in LOGGED if kind in row}
