"""Averages of the weights: chosen after the run they equal those computed during it."""

import json

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.models.training.dit.profiles import (
    GAMMAS,
    Profiles,
    fit,
    gamma_of,
    profile,
    reconstruct,
    save_snapshots,
    snapshot_steps,
)
from comfyui_spacetime.models.training.optim.optimiser import EMA
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT

from .test_training_batches import cache, train  # noqa: F401 - a fixture

STEPS = 400


def walk(steps: int = STEPS) -> list[torch.Tensor]:
    """Weights along a run: they move fast, then slowly, and jitter."""
    rng = torch.Generator().manual_seed(0)
    goal = torch.randn(50, generator=rng)
    return [goal * (1 - np.exp(-6 * t / steps)) + 0.2 * torch.randn(50, generator=rng) for t in range(1, steps + 1)]


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_widths_are_those_of_the_paper(width, gamma):
    assert gamma_of(width) == pytest.approx(gamma, abs=0.01)


@pytest.mark.parametrize("width", [0.02, 0.07, 0.2, 0.28])
def test_the_width_is_the_deviation_of_the_profile(width):
    edges = np.linspace(0, 1, 100_001)
    weights = profile(1, gamma_of(width), edges)
    middle = (edges[1:] + edges[:-1]) / 2
    mean = (weights * middle).sum()
    assert weights.sum() == pytest.approx(1)
    assert (weights * (middle - mean) ** 2).sum() ** 0.5 == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("width", [0, -1, 0.3, float("nan")])
def test_widths_that_no_profile_has_are_refused(width):
    with pytest.raises(ValueError, match="--sigma-rel lies between"):
        gamma_of(width)


def test_the_running_average_weighs_steps_as_its_profile_says():
    points, average = walk(), EMA({"w": torch.zeros(50)})
    for step, point in enumerate(points, 1):
        average.update({"w": point}, step)
    weights = torch.tensor(profile(STEPS, average.gamma, np.arange(STEPS + 1.0)))
    exact = (weights[:, None] * torch.stack(points).double()).sum(dim=0)
    assert torch.allclose(average.weights["w"].double(), exact, atol=1e-5)


@pytest.mark.parametrize(("width", "tolerance"), [(0.05, 1e-3), (0.07, 0.02), (0.10, 1e-3), (0.15, 0.05), (0.2, 0.1)])
@pytest.mark.parametrize("step", [STEPS, 350])
def test_fitted_averages_equal_those_computed_along_the_run(width, tolerance, step):
    points, kept = walk(), Profiles({"w": torch.zeros(50)})
    wanted = EMA({"w": torch.zeros(50)}, gamma_of(width))
    snapshots = []
    for number, point in enumerate(points, 1):
        kept.update({"w": point}, number)
        if number <= step:
            wanted.update({"w": point}, number)
        if number in snapshot_steps(STEPS, 8):
            snapshots += [((number, e.gamma), e.weights["w"].double().clone()) for e in (kept, *kept.others)]
    used = [row for row in snapshots if row[0][0] <= step]
    factors, error = fit([key for key, _ in used], step, gamma_of(width))
    made = sum(f * weights for f, (_, weights) in zip(factors, used, strict=True))
    assert factors.sum() == pytest.approx(1, abs=1e-4)
    assert error < tolerance  # of the profile; the weights change slowly, so theirs is smaller
    assert float((made - wanted.weights["w"].double()).norm() / wanted.weights["w"].norm()) < tolerance / 5


def test_a_run_carries_both_profiles_through_its_checkpoint():
    one = Profiles({"w": torch.ones(3)})
    one.update({"w": torch.zeros(3)}, 2)
    names = dict(one.items())
    assert set(names) == {"w", "16.97:w"}
    assert not torch.equal(names["w"], names["16.97:w"])


def test_a_run_leaves_snapshots_and_an_early_model(cache, tmp_path):  # noqa: F811
    whole = train(cache, tmp_path, steps=20, save_every=10, snapshots=4, early=0.2).state_dict()
    assert sorted(path.name for path in (tmp_path / "averages").iterdir()) == sorted(
        f"{step:08d}-{gamma}.safetensors" for step in (5, 10, 15, 20) for gamma in GAMMAS
    )
    early = load_checkpoint(tmp_path / "early.safetensors")
    assert early.meta["steps"] == 4
    assert any(not torch.equal(early.dit_state[key], weight) for key, weight in whole.items())
    assert len(early.dit().state_dict()) == len(whole)
    same, error = reconstruct(tmp_path, 0.0999)  # nearly the run's own: 0.10
    assert error < 0.01
    rounding = max(
        float((same.dit_state[key] - weight).norm() / (weight.norm() + 1e-9)) for key, weight in whole.items()
    )
    assert rounding < 0.02
    assert same.meta.items() >= {"steps": 20, "sigma_rel": 0.0999, "trained_on": ["32x32x9"]}.items()


def test_a_resumed_run_leaves_the_same_averages(cache, tmp_path, monkeypatch):  # noqa: F811
    from comfyui_spacetime.models.training.dit import train as training

    common = {"steps": 8, "save_every": 3, "snapshots": 2, "early": 0.5}
    train(cache, tmp_path / "whole", **common)
    monkeypatch.setattr(training, "report", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(cache, tmp_path / "broken", **common)
    monkeypatch.undo()
    train(cache, tmp_path / "broken", **common)
    for path in (tmp_path / "whole" / "averages").iterdir():
        other = read_tensors(tmp_path / "broken" / "averages" / path.name)[0]
        assert all(torch.equal(other[key], value) for key, value in read_tensors(path)[0].items())


def test_what_snapshots_cannot_give_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        reconstruct(tmp_path, 0.1)
    (tmp_path / "config.json").write_text(json.dumps({"steps": 10, "snapshots": 1}))
    with pytest.raises(ValueError, match="holds no snapshots"):
        reconstruct(tmp_path, 0.1)
    model = DiT(PRESETS["test"])
    save_checkpoint(tmp_path / "dit.safetensors", Checkpoint(model.config, model.state_dict()))
    averages = Profiles({name: p.detach().clone() for name, p in model.named_parameters()})
    save_snapshots(tmp_path, averages, 10)
    with pytest.raises(ValueError, match="outside of the snapshots, from 10 to 10"):
        reconstruct(tmp_path, 0.1, 11)
    with pytest.raises(ValueError, match="train with more --snapshots"):
        reconstruct(tmp_path, 0.27)
