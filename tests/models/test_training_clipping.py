"""Gradients that are far longer than usual: how they are cut, that a broken batch does no harm, and what is kept."""

import statistics
from dataclasses import replace

import pytest
import torch

from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.models.training.dit import train as training
from comfyui_spacetime.models.training.optim.clipping import FEWEST, GradientClipping
from comfyui_spacetime.models.training.optim.optimiser import Optimiser
from comfyui_spacetime.models.training.run.folder import generator

from .test_training_batches import EMPTY, VAES, VideoVAE, cache, settings  # noqa: F401 - a fixture

NORMS = [0.2 + 0.01 * ((7 * i) % 5) for i in range(FEWEST)]


def seen(norms: list[float], deviations: float = 3.0) -> GradientClipping:
    clip = GradientClipping(deviations=deviations)
    assert [cut(clip, norm) for norm in norms] == [1.0] * len(norms)
    return clip


def cut(clip: GradientClipping, norm: float) -> float:
    return float(clip.factor(torch.tensor(norm)))


def test_a_gradient_is_cut_at_the_mean_and_deviations_of_those_before():
    clip = seen(NORMS)
    usual = statistics.mean(NORMS) + 3 * statistics.pstdev(NORMS)
    assert cut(clip, usual * 0.99) == 1
    assert cut(seen(NORMS), usual * 1.01) == pytest.approx(1 / 1.01, rel=1e-4)
    assert 50 * cut(seen(NORMS), 50) == pytest.approx(usual, rel=1e-4)


def test_only_the_constant_cuts_while_few_were_seen_or_where_nothing_else_is_asked_for():
    assert 50 * cut(seen(NORMS[:-1]), 50) == pytest.approx(1, rel=1e-4)
    assert 50 * cut(seen(NORMS, deviations=0), 50) == pytest.approx(1, rel=1e-4)


def test_a_spike_hardly_moves_the_limit_and_a_lasting_change_does():
    clip = seen(NORMS)
    first = 50 * cut(clip, 50)
    assert 50 * cut(clip, 50) < 1.1 * first  # of the next step
    for _ in range(100):
        cut(clip, 0.6)  # three times as long from now on
    assert cut(clip, 0.6) == 1


@pytest.mark.parametrize("deviations", [-1, float("nan"), float("inf")])
def test_senseless_limits_are_refused(deviations):
    with pytest.raises(ValueError, match="--clip-deviations is 0"):
        GradientClipping(deviations=deviations)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_changes_nothing(value):
    model = torch.nn.Linear(2, 2)
    optimiser = Optimiser(model, learning_rate=0.1, clip_deviations=3)
    model.weight.grad = torch.tensor([[1.0, value], [0, 0]])
    model.bias.grad = torch.ones(2)
    before = {key: value.clone() for key, value in optimiser.state().items()}
    with pytest.raises(ValueError, match=f"gradient became {value} at step 0: lower --learning-rate"):
        optimiser.step()
    assert all(torch.equal(value, before[key]) for key, value in optimiser.state().items())


def run(cache, folder, monkeypatch, *, poison=(), ends=60, deviations=0.0):  # noqa: F811
    """60 steps, of which those of `poison` get clips 100 times too large; asked to stop after `ends`."""
    draw, steps = training.draw_batch, {generator(0, step).initial_seed(): step for step in range(60)}
    at = [-1]

    def drawn(*args, **named):
        at[0] = steps.get(args[-1].initial_seed(), -1)
        batch = draw(*args, **named)
        return replace(batch, clean=batch.clean * 100) if at[0] in poison else batch

    with monkeypatch.context() as patch:
        patch.setattr(training, "draw_batch", drawn)
        patch.setattr(training, "asked_to_stop", lambda: at[0] + 1 == ends)
        chosen = settings(steps=60, save_every=60, warmup=5, clip_deviations=deviations, snapshots=0, early=0.0)
        torch.manual_seed(0)
        return training.train(chosen, cache, cache, EMPTY, VideoVAE(VAES["test"]), folder)


def errors(deviations: float, *, muon: bool, poison: int = -1) -> list[float]:
    """Squared error of a matrix after each step of learning it; in step `poison` the targets are large noise."""
    torch.manual_seed(0)
    model, goal = torch.nn.ModuleDict({"blocks": torch.nn.Linear(16, 16)}), torch.randn(16, 16) / 4
    optimiser = Optimiser(model, learning_rate=0.01, weight_decay=0, muon=muon, clip_deviations=deviations)
    found = []
    for step in range(400):
        inputs, noise = torch.randn(64, 16), torch.randn(64, 16)
        targets = 100 * noise if step == poison else inputs @ goal.T + 0.1 * noise
        (model["blocks"](inputs) - targets).square().mean().backward()
        assert (optimiser.step(min(1, (400 - step) / 200)) > 20) == (step == poison)  # which of them is far off
        found.append(float((model["blocks"].weight - goal).square().mean().detach()))
    return found


def test_a_poisoned_batch_does_no_harm():
    """With AdamW; the constant alone lets it undo much of what was learned."""
    constant, adaptive = (errors(deviations, muon=False, poison=300) for deviations in (0.0, 3.0))
    assert max(constant[300:]) > 4 * constant[299]
    assert max(adaptive[300:]) < 1.5 * adaptive[299]
    assert max(adaptive[330:]) < adaptive[299]


def test_sound_batches_teach_as_much_as_without():
    for muon in (False, True):
        constant, adaptive = (errors(deviations, muon=muon)[-1] for deviations in (0.0, 3.0))
        assert adaptive < 1.02 * constant


def test_a_resumed_run_cuts_as_the_whole_one_does(cache, tmp_path, monkeypatch):  # noqa: F811
    arguments = {"poison": (40, 50), "deviations": 3.0}
    whole = run(cache, tmp_path / "whole", monkeypatch, **arguments)
    with pytest.raises(training.StoppedError):
        run(cache, tmp_path / "stopped", monkeypatch, ends=42, **arguments)
    resumed = run(cache, tmp_path / "stopped", monkeypatch, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    states = [read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "stopped")]
    assert states[0]["clip.recent"][0] == 60
    assert torch.equal(*(state["clip.recent"] for state in states))
