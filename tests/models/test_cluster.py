"""A real Ray cluster of two CPUs on this machine: the same training run as by one process, the same videos as here."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint
from comfyui_spacetime.models.cluster.fan_out import Maker, OneByOne, Recipe, fan_out, jobs_of
from comfyui_spacetime.models.training.optim.layout import newest
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAE_PRESETS
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.tools.bench import resume, workers

from .test_training_workers import alone

pytest.importorskip("ray", reason="Ray is not installed; users have it only if they want it")
SMALL = Recipe(num_frames=5, height=32, width=32, steps=3, numbers="float32")


def small_checkpoint() -> Checkpoint:
    """A DiT whose head is not zero, so that prompt and seed show, and a VAE."""
    torch.manual_seed(0)
    dit, vae = DiT(PRESETS["test"]).initialise(), VideoVAE(VAE_PRESETS["test"])
    torch.nn.init.normal_(dit.head.linear.weight, std=0.1)
    return Checkpoint(PRESETS["test"], dit.state_dict(), VAE_PRESETS["test"], vae.state_dict(), {"shift": 3.0})


def leftovers() -> list[psutil.Process]:
    """Processes of Ray below this one."""
    return [p for p in psutil.Process().children(recursive=True) if "ray" in p.name() or "gcs_server" in p.name()]


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """A cluster of two CPUs for all tests but the one that starts its own: that takes longer than what they do."""
    from comfyui_spacetime.models.cluster.connection import cluster

    with cluster("local", cpus=2) as module:
        yield module
    assert not leftovers()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return resume.prepare(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def arguments(data) -> list[str]:
    return [*resume.dit_arguments(data), "--learning-rate", "0.01", "--snapshots", "2"]


@pytest.fixture(scope="module")
def whole(data, arguments) -> Path:
    """The run of one process."""
    return alone(arguments, data / "whole")


def test_a_cluster_of_this_machine_listens_on_this_machine_alone(ray):
    ray.get(ray.remote(lambda: 1).remote())  # so that there is a worker
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    open_ports = [one for p in processes for one in p.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN]
    assert len(open_ports) >= 3
    assert {one.laddr.ip for one in open_ports} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_sockets_lie_where_their_paths_are_short_enough(ray, monkeypatch, tmp_path):
    from comfyui_spacetime.models.cluster import connection

    (place,) = {
        len(str(path)) for path in Path(ray._private.worker._global_node.get_sockets_dir_path()).glob("plasma*")
    }
    number = len(str(psutil.Process().pid))
    assert place == len(connection.tempfile.gettempdir() + connection.BEHIND) - 7 + number
    monkeypatch.setattr(connection.tempfile, "gettempdir", lambda: "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T")
    assert connection.folder_for_sockets() == "/tmp"
    monkeypatch.setattr(connection, "MAX_SOCKET_PATH", 20)
    with pytest.raises(ValueError, match="set TMPDIR to a shorter one"):
        connection.folder_for_sockets()


def test_videos_of_two_workers_are_those_of_the_plain_loop_also_when_one_dies(ray):
    from comfyui_spacetime.models.cluster.actors import Actors

    jobs = jobs_of(["a red ball falls", "a blue cube spins"], 3, first=5)
    checkpoint = small_checkpoint()
    pool = Actors(ray, checkpoint, SMALL)
    assert pool.count == 2
    made = []
    for job, frames in fan_out(pool, jobs):
        made.append((job, frames))
        if len(made) == 1:  # both have proved themselves or are at work: one is killed
            victim = next(iter(pool.busy.values()))[0] if pool.busy else pool.idle[0]
            ray.kill(victim)
    threads = torch.get_num_threads()
    expected = list(fan_out(OneByOne(Maker(checkpoint, SMALL)), jobs))
    torch.set_num_threads(threads)
    assert [job for job, _ in made] == jobs
    for (_, ours), (_, theirs) in zip(made, expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert len({frames.tobytes() for _, frames in made}) == len(jobs), "every prompt and seed has its own video"


@pytest.fixture
def on_shared_ray(ray, monkeypatch) -> None:
    """The commands of this process find the cluster that is there, and leave pytest's signals alone."""
    from comfyui_spacetime.models.cluster import training

    monkeypatch.setattr(training, "cluster", lambda *_, **__: nullcontext(ray))
    monkeypatch.setattr(training, "stop_on_signals", lambda **_: None)


def command(monkeypatch, arguments: list[str], out: Path, workers: int) -> int:
    """`models.cluster train` in this process."""
    from comfyui_spacetime.models.cluster import __main__ as program

    shared = ["train", "--address", "local", "--workers", str(workers), "--restarts", "1", "--", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["run.py", *shared, *arguments, "--out", str(out)])
    return program.main()


def same_run(whole: Path, out: Path) -> None:
    losses, apart = workers.apart(whole, out)
    assert losses < 2e-4
    assert apart < 5e-5  # as under torchrun
    assert not (out / "ray").exists()


def test_ray_train_makes_the_run_of_one_process(arguments, whole, tmp_path):
    """By the command that users start, with a cluster of its own."""
    process = workers.on_ray(arguments, tmp_path, 2)
    said = process.communicate(timeout=resume.PATIENCE)[1].decode()
    assert process.returncode == 0, said
    same_run(whole, tmp_path)


@pytest.mark.usefixtures("on_shared_ray")
def test_ray_train_goes_on_when_a_worker_dies(arguments, whole, tmp_path, monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_a_worker, tmp_path)
        assert command(monkeypatch, arguments, tmp_path, 2) == 0
    killed.result()
    same_run(whole, tmp_path)


def kill_a_worker(out: Path) -> None:
    """After the first checkpoint, as the system does when memory is full."""
    deadline = time.monotonic() + resume.PATIENCE
    while newest(out) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process().children(recursive=True)
    trainers = [p for p in family if "TrainWorker" in " ".join(p.cmdline())]
    assert len(trainers) == 2
    trainers[1].kill()


@pytest.mark.usefixtures("on_shared_ray")
def test_a_wrong_setting_ends_a_ray_run_at_once_with_its_sentence(arguments, tmp_path, monkeypatch, capfd):
    assert command(monkeypatch, [*arguments, "--mix", "64x64x9"], tmp_path, 1) == 2
    assert capfd.readouterr().err.splitlines()[-1] == "the cache holds no clips of 64x64x9, only 32x32x9"


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    from comfyui_spacetime.models.cluster.connection import cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'pip install "ray\[train\]"'), cluster("local", 1):
        pass
