"""Training by several real processes under torchrun: the same run as by one, also split, killed, stopped, continued."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.models.training import __main__ as command
from comfyui_spacetime.models.training.__main__ import parser, run
from comfyui_spacetime.models.training.dit.sharded import rows_of_workers
from comfyui_spacetime.models.training.dit.workers import ShardedWorkers, Workers
from comfyui_spacetime.models.training.optim.layout import newest
from comfyui_spacetime.tools import commands
from comfyui_spacetime.tools.bench import resume, workers
from comfyui_spacetime.tools.terminal import Trouble

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torchrun's processes are told to end by signals")
ROUTED = ["--route", "0.5", "--route-start", "0", "--route-end", "1"]
SAME_LOSS = 2e-4  # the log has four digits
SAME_WEIGHTS = 5e-5  # fp32 sums in another order, which AdamW enlarges where gradients are tiny; measured 1.2e-5


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return resume.prepare(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def arguments(data) -> list[str]:
    return [*resume.dit_arguments(data), "--learning-rate", "0.01", "--snapshots", "2", "--clip-deviations", "3"]


@pytest.fixture(scope="module")
def whole(data, arguments) -> Path:
    """The run of one process."""
    return alone(arguments, data / "whole")


def alone(arguments: list[str], out: Path) -> Path:
    """The training command in this process, on one thread: starting another takes longer than such a run."""
    threads = torch.get_num_threads()
    try:
        run(parser().parse_args(["--threads", "1", *arguments, "--out", str(out)]))
    finally:
        torch.set_num_threads(threads)
    return out


def difference(one: Path, other: Path) -> tuple[float, float]:
    """Greatest difference between two runs' logs and between their weights."""
    assert workers.log_of(one).keys() == workers.log_of(other).keys()
    return workers.apart(one, other)


def wait_for_checkpoint(process: subprocess.Popen, out: Path) -> None:
    deadline = time.monotonic() + resume.PATIENCE
    while newest(out) is None:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that torchrun has started."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "models.training" in child.cmdline()]


@pytest.mark.parametrize(
    "split", [[], ["--shard"], ["--shard", "--packing", "--accumulate", "2", *ROUTED]], ids=" ".join
)
def test_two_workers_make_the_run_of_one(data, arguments, whole, split, tmp_path):
    reference = whole
    if "--packing" in split:
        reference = alone([*arguments, *split[1:]], tmp_path / "whole")
    process = workers.torchrun([*arguments, *split], tmp_path / "two", 2)
    said = process.communicate(timeout=resume.PATIENCE)[1].decode()
    assert process.returncode == 0, said
    losses, apart = difference(reference, tmp_path / "two")
    assert losses < SAME_LOSS
    assert apart < SAME_WEIGHTS
    lines = [(folder / "log.jsonl").read_text().count("\n") for folder in (reference, tmp_path / "two")]
    assert lines[0] == lines[1], "one worker writes"
    held = workers.held(said)
    assert len(held) == 2
    assert (tmp_path / "two" / "checkpoint.safetensors").exists() == (not split)
    if split:
        total = sum(t.numel() * 4 for t in read_tensors(whole / "checkpoint.safetensors")[0].values())
        assert max(held) < 0.55 * workers.whole_bytes(whole)
        parts = sum(path.stat().st_size for path in (tmp_path / "two" / "checkpoint-00000010").iterdir())
        assert total < parts < 1.1 * total + 100_000


def test_a_split_run_that_lost_a_worker_ends_and_three_or_one_continue_it(arguments, whole, tmp_path):
    first = workers.torchrun([*arguments, "--shard"], tmp_path, 2)
    wait_for_checkpoint(first, tmp_path)
    members = family(first)
    assert len(members) == 2
    members[1].kill()
    first.communicate(timeout=resume.PATIENCE)
    assert first.returncode
    assert not [member for member in members if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    assert newest(tmp_path)[1] < 10
    second = workers.torchrun([*arguments, "--shard"], tmp_path, 3)  # some have no row of the smallest tensors
    while second.poll() is None and newest(tmp_path)[1] < 8:
        time.sleep(0.02)
    second.terminate()
    said = second.communicate(timeout=resume.PATIENCE)[1].decode()
    assert "stopped after step" in said or newest(tmp_path)[1] == 10
    alone(arguments, tmp_path)  # one whole process reads the parts
    assert newest(tmp_path)[0].name == "checkpoint.safetensors"
    assert difference(whole, tmp_path)[1] < SAME_WEIGHTS


def test_torchrun_restarts_workers_where_they_were(arguments, whole, tmp_path):
    process = workers.torchrun(arguments, tmp_path, 2, restarts=1)
    wait_for_checkpoint(process, tmp_path)
    family(process)[0].kill()
    said = process.communicate(timeout=resume.PATIENCE)[1].decode()
    assert process.returncode == 0, said
    assert difference(whole, tmp_path)[1] < SAME_WEIGHTS


def test_asked_to_stop_all_leave_after_the_same_step(arguments, whole, tmp_path):
    process = workers.torchrun(arguments, tmp_path, 2)
    wait_for_checkpoint(process, tmp_path)
    family(process)[1].send_signal(signal.SIGTERM)  # one of them is asked: the others hear of it
    said = process.communicate(timeout=resume.PATIENCE)[1].decode()
    if newest(tmp_path)[1] < 10:
        steps = re.findall(r"stopped after step (\d+)", said)
        assert len(steps) == 2
        assert len(set(steps)) == 1
        assert newest(tmp_path)[1] == int(steps[0])
    alone([*arguments, "--shard"], tmp_path)  # one process has nothing to split
    assert difference(whole, tmp_path)[1] < SAME_WEIGHTS


def test_run_py_starts_torchrun_without_a_shell(monkeypatch):
    started = []
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0")
    monkeypatch.setattr(commands, "run_in", lambda _, command, **options: started.append((command, options)) or 0)
    monkeypatch.setattr(commands.environment, "set_up", lambda: Path(sys.executable))
    assert commands.main(["train", "--processes", "2", "dit", "--out", "x; rm y"]) == 0
    ((command, options),) = started
    assert command[:3] == ["-m", "torch.distributed.run", "--standalone"]
    assert command[-4:] == ["models.training", "dit", "--out", "x; rm y"]
    assert options == {"apart": True}
    commands.main(["train", "dit", "--preset", "B"])
    assert started[1][0][1:] == ["models.training", "dit", "--preset", "B"]
    commands.main(["train", "--ray", "auto", "--processes", "4", "dit", "--shard"])
    assert os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert started[2][0][1:4] == ["models.cluster", "train", "--restarts"]
    assert started[2][0][-3:] == ["--", "dit", "--shard"]
    with pytest.raises(Trouble, match="1 or more"):
        commands.train(commands.parser().parse_args(["train", "--processes", "0"]), [])


def test_only_dit_is_shared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["train", *resume.vae_arguments(), "--out", str(tmp_path / "vae")])
    monkeypatch.setattr(command, "stop_on_signals", lambda **_: None)
    assert command.main() == 2
    assert capsys.readouterr().err == "`vae` runs in one process: only `dit` is shared by several workers\n"


def test_every_worker_of_a_split_run_has_as_many_pieces():
    class Clips:
        def __init__(self, numbers):
            self.numbers, self.count = list(numbers), len(numbers)

        def part(self, clips):
            return Clips(self.numbers[clips])

        def parts(self, number):
            number = min(number, self.count)
            return [self.part(slice(self.count * i // number, self.count * (i + 1) // number)) for i in range(number)]

    for count, total, parts in ((2, 5, 3), (4, 2, 2), (3, 7, 1)):
        split = [ShardedWorkers(rank, count).pieces(Clips(range(total)), parts) for rank in range(count)]
        assert len({len(pieces) for pieces in split}) == 1
        computed = [n for pieces in split for piece, share in pieces if share for n in piece.numbers]
        assert computed == list(range(total))
        assert sum(share for pieces in split for _, share in pieces) == pytest.approx(1)
        whole = [Workers(rank, count).pieces(Clips(range(total)), parts) for rank in range(count)]
        assert [n for pieces in whole for piece, _ in pieces for n in piece.numbers] == list(range(total))


@pytest.mark.parametrize("rows", [1, 2, 6, 7, 8, 9])
def test_rows_are_cut_as_torch_cuts_them(rows):
    for count in (2, 3, 5):
        cut = [len(part) for part in torch.arange(rows).chunk(count)]
        assert rows_of_workers(rows, count) == cut + [0] * (count - len(cut))
