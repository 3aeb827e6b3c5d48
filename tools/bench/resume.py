"""Training killed with SIGKILL at random moments, or asked to stop, and started again: equal to the bit to a whole run.

Every run is a process of its own, started as `run.py train` does. `equal` compares all weights and optimiser moments of
the last checkpoint, the finished weights and the validation scores. One CPU, small networks.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...models.files import parsed_json, read_text

ROOT = Path(__file__).resolve().parents[2]
SIZE = "32x32x9"
PATIENCE = 300.0  # seconds until a run that says nothing counts as hanging


def rows() -> Iterable[dict[str, Any]]:
    """One row per case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare(folder)
        cases = {
            "DiT, float32": (dit_arguments(data), "dit.safetensors"),
            "DiT, bfloat16": (dit_arguments(data, dtype="bfloat16"), "dit.safetensors"),
            "VAE, float32": (vae_arguments(), "vae.safetensors"),
        }
        for case, (arguments, result) in cases.items():
            whole, broken = folder / f"{case} whole", folder / f"{case} broken"
            finish(start(arguments, whole))
            for kind in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
                interrupt(arguments, broken, kind)
            finish(start(arguments, broken))
            yield {"case": f"{case}: killed twice, stopped once", "equal": same(whole, broken, result)}


def prepare(folder: Path, clips: int = 12) -> Path:
    """A VAE and a cache of toy-world latents to train on, without the text encoder."""
    import torch

    from ...models.checkpoints import Checkpoint, save_checkpoint
    from ...models.clips.toy import cache_toy_world
    from ...models.geometry import ClipSize
    from ...models.vae.autoencoder import PRESETS, VideoVAE

    torch.manual_seed(0)
    vae = VideoVAE(PRESETS["test"])

    def encoder(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(len(texts), 20, 384), torch.ones(len(texts), 20, dtype=torch.bool)

    cache_toy_world(folder / "clips", vae, encoder, ClipSize.parse(SIZE), clips)  # type: ignore[arg-type]
    save_checkpoint(folder / "vae.safetensors", Checkpoint(vae_config=PRESETS["test"], vae_state=vae.state_dict()))
    return folder


def dit_arguments(data: Path, dtype: str = "float32", steps: int = 10, save_every: int = 2) -> list[str]:
    """A small DiT run: five clips a step, so that two workers get unequal parts."""
    place = ["--vae", str(data / "vae.safetensors"), "--data", str(data / "clips"), "--held-out", str(data / "clips")]
    length = ["--steps", str(steps), "--save-every", str(save_every), "--warmup", "2", "--tokens", "60"]
    return ["dit", "--preset", "test", "--device", "cpu", "--dtype", dtype, *place, *length]


def vae_arguments() -> list[str]:
    """A small VAE run."""
    size = ["--size", SIZE, "--clips", "4", "--crop", "32", "--batch", "2"]
    return ["vae", "--preset", "test", "--dtype", "float32", "--steps", "10", "--save-every", "2", *size]


def start(arguments: Sequence[str], out: Path, **environment: str) -> subprocess.Popen[bytes]:
    """The training command as a process."""
    command = [sys.executable, str(ROOT / "tools" / "pack.py"), "models.training", "--threads", "1", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run that should succeed."""
    _, said = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise SystemExit(f"training failed with code {process.returncode}: {said.decode(errors='replace')[-2000:]}")


def interrupt(arguments: Sequence[str], out: Path, kind: signal.Signals) -> None:
    """Start or continue a run and end it at a random moment after its next checkpoint."""
    checkpoint, delay = out / "checkpoint.safetensors", random.random()
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = start(arguments, out)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            time.sleep(delay)
            break
        time.sleep(0.01)
    process.send_signal(kind)
    process.communicate(timeout=PATIENCE)


def same(one: Path, other: Path, result: str) -> bool:
    """Whether two run folders hold the same training state, weights and scores, to the bit."""
    import torch

    from ...models.files import read_tensors

    for name in ("checkpoint.safetensors", result):
        (a, header), (b, other_header) = read_tensors(one / name), read_tensors(other / name)
        if header != other_header or a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return scores(one) == scores(other)


def scores(folder: Path) -> dict[int, dict[str, float]]:
    """What the log says about held-out clips, by step; a resumed run may have measured a step twice."""
    lines = read_text(folder / "log.jsonl").splitlines()
    entries = [parsed_json(line, "log.jsonl", dict) for line in lines if line.endswith("}")]
    judged = [entry for entry in entries if "validation_loss" in entry or "psnr" in entry]
    return {entry["step"]: {key: value for key, value in entry.items() if key != "time"} for entry in judged}
