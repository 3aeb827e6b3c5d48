"""Training as real processes: killed at random moments and resumed, stopped, kept out, and shared by two workers."""

import json
import signal
import socket
import sys
from pathlib import Path

import pytest

from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.tools.bench import resume


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return resume.prepare(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data) -> Path:
    """A run that nothing disturbed."""
    resume.finish(resume.start(resume.dit_arguments(data), data / "whole"))
    return data / "whole"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_at_random_moments_and_resumed_equals_the_whole_run(data, whole):
    arguments, out = resume.dit_arguments(data), data / "killed"
    resume.interrupt(arguments, out, signal.SIGKILL)
    resume.interrupt(arguments, out, signal.SIGTERM)
    resume.finish(resume.start(arguments, out))
    assert resume.same(whole, out, "dit.safetensors")


def test_two_workers_follow_the_curve_of_one(data, whole):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    arguments, out = resume.dit_arguments(data), data / "two"
    workers = [resume.start(arguments, out, RANK=rank, LOCAL_RANK=rank, **address) for rank in ("0", "1")]
    for worker in workers:
        resume.finish(worker)
    one, two = losses(whole), losses(out)
    assert one.keys() == two.keys()
    assert all(two[step] == pytest.approx(one[step], abs=2e-4) for step in one)
    first, second = (read_tensors(folder / "dit.safetensors")[0] for folder in (whole, out))
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-3


def losses(folder: Path) -> dict[tuple[int, str], float]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {(row["step"], kind): row[kind] for row in entries for kind in ("loss", "validation_loss") if kind in row}


def test_workers_share_a_batch_without_gap_or_overlap():
    from comfyui_spacetime.models.training.dit.workers import Workers

    for total in (1, 4, 5):
        parts = [Workers(rank, 2).rows(total) for rank in range(2)]
        assert [i for part in parts for i in range(total)[part]] == list(range(total))
