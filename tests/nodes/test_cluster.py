"""Generate on a Cluster without a cluster: what it starts, and what a workflow cannot make it do."""

import json

import numpy as np
import pytest
import torch

WISH = {
    "seeds": 2,
    "first_seed": 3,
    "checkpoint": "spacetime-toy",
    "seconds": 0.5,
    "width": 32,
    "height": 32,
    "steps": 2,
    "cfg": 2.0,
    "workers": 1,
}


@pytest.fixture
def started(comfy_host, tmp_path, monkeypatch):
    """Commands instead of processes; each leaves the videos it was asked for, all of one value."""
    import folder_paths

    from comfyui_spacetime.nodes.host.processes import cluster

    commands = []

    def follow(_node, arguments, folder, look, _remedy):
        commands.append(arguments)
        (folder / "videos").mkdir()
        prompts = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
        for i in range(2 * sum(bool(line.strip()) for line in prompts)):
            np.save(folder / "videos" / f"{i + 1:04d}_seed{i}.npy", np.full((5, 32, 32, 3), 51 * i, np.uint8))
        look()

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    monkeypatch.setattr(cluster, "follow", follow)
    monkeypatch.delenv(cluster.ADDRESS, raising=False)
    return commands


def run(prompts, **changes):
    from comfyui_spacetime.nodes.cluster import GenerateOnCluster

    return GenerateOnCluster.execute(prompts=prompts, **{**WISH, **changes}).result


def test_videos_come_back_as_a_list_in_order_and_nothing_is_left(started, tmp_path):
    images, names = run("a ball\n\na cube")
    assert [tuple(video.shape) for video in images] == [(5, 32, 32, 3)] * 4
    assert [round(float(video.mean()), 4) for video in images] == [0, 0.2, 0.4, 0.6]
    assert images[0].dtype == torch.float32
    assert names == ["a ball, seed 3", "a ball, seed 4", "a cube, seed 3", "a cube, seed 4"]
    assert not list(tmp_path.iterdir())


def test_the_hosts_models_make_room_before_workers_are_started(started, monkeypatch):
    from comfyui_spacetime.nodes.host.processes import cluster

    before = []
    monkeypatch.setattr(cluster, "make_room", lambda: before.append(len(started)))
    run("a ball")
    assert before == [0]


def test_the_address_is_the_users_alone(started, monkeypatch):
    run("a ball --address ray://elsewhere:10001\n--out=/etc")
    assert started[0][started[0].index("--address") + 1] == "local"
    assert "elsewhere" not in json.dumps(started[0])
    monkeypatch.setenv("SPACETIME_RAY_ADDRESS", "auto")
    run("a ball")
    assert started[1][started[1].index("--address") + 1] == "auto"


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "nothing.safetensors"])
def test_a_checkpoint_outside_of_the_model_folders_is_refused(started, name):
    with pytest.raises(ValueError, match="there is no checkpoint"):
        run("a ball", checkpoint=name)
    assert not started


@pytest.mark.parametrize(("prompts", "seeds"), [("", 1), (" \n ", 2), ("a\n" * 20, 1000)])
def test_no_prompts_or_too_many_videos_start_nothing(started, prompts, seeds):
    with pytest.raises(ValueError, match="seeds each"):
        run(prompts, seeds=seeds)
    assert not started
