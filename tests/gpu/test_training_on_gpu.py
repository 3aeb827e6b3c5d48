"""Whole training runs on a pretended GPU, with their saves and reports; and what a step waits for."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.toy import cache_toy_world, toy_pixels
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.training.captioner import train as captioner
from comfyui_spacetime.models.training.distill import train as distilling
from comfyui_spacetime.models.training.distill.settings import Distillation
from comfyui_spacetime.models.training.dit import train as dit
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.run.ahead import AHEAD
from comfyui_spacetime.models.training.run.devices import taking_turns
from comfyui_spacetime.models.training.run.stopping import StoppedError
from comfyui_spacetime.models.training.vae import train as vae
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
from comfyui_spacetime.tests.gpu.device import PretendedGPU
from comfyui_spacetime.tests.gpu.tensor import GPUTensor

SIZE = ClipSize(32, 32, 9)
DIT: dict[str, Any] = {"preset": "test", "steps": 2, "tokens": 32, "save_every": 2, "warmup": 1, "snapshots": 2}
LOSSES: dict[str, Any] = {"alignment": 0.5, "balance": 1.0, "steadiness": 0.5, "region": 1.0}
ROUTED: dict[str, Any] = {"route": 0.5, "route_start": 0, "route_end": 1}
QUIET: dict[str, Any] = {"save_every": 1000, "snapshots": 0, "early": 0.0, "images": 0.0}
VAE: dict[str, Any] = {"preset": "test", "steps": 2, "batch": 1, "crop": 32, "frames": (9,), "save_every": 2}


@pytest.fixture(scope="module")
def network() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(PRESETS["test"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory, network) -> LatentCache:
    def encoder(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(len(texts), 8, 384), torch.ones(len(texts), 8, dtype=torch.bool)

    folder = tmp_path_factory.mktemp("cache")
    cache_toy_world(folder, network, encoder, SIZE, 4, truth=True)
    return LatentCache(folder)


@pytest.fixture
def gpu(monkeypatch) -> Iterator[PretendedGPU]:
    monkeypatch.setitem(AHEAD, "cuda", 0)  # the pretended GPU is seen by one thread alone
    with PretendedGPU() as found:
        yield found


@pytest.fixture(autouse=True)
def few_steps(monkeypatch) -> None:
    """Samples of a report in two steps instead of 24: a step is like the others."""
    save = dit.save_samples
    monkeypatch.setattr(dit, "save_samples", lambda *given: save(*given[:-1], replace(given[-1], steps=2)))


def train_dit(cache: LatentCache, network: VideoVAE, out: Path, init: Checkpoint | None = None, **changes: Any) -> DiT:
    return dit.train(DiTTraining(**(DIT | changes)), cache, cache, torch.zeros(2, 384), network, out, init, "cuda")


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float32", "muon": False},
        {"packing": True} | ROUTED,
        {"accumulate": 2, "checkpointing": True},
        {"lora": 2},
    ],
    ids=str,
)
def test_a_dit_is_trained_and_reported(gpu, cache, network, tmp_path, changes):
    start = DiT(DITS["test"])
    init = Checkpoint(start.config, start.state_dict()) if "lora" in changes else None
    train_dit(cache, network, tmp_path, init, **changes)
    assert (tmp_path / "samples" / "000002.png").exists()
    assert not isinstance(network.latent_mean, GPUTensor), "the VAE is back where it was"


def test_a_run_on_the_gpu_continues_there_to_the_bit(gpu, cache, network, tmp_path, monkeypatch):
    whole = train_dit(cache, network, tmp_path / "whole", steps=3)
    answers = iter([False, True])
    monkeypatch.setattr(dit, "asked_to_stop", lambda: next(answers, False))
    with pytest.raises(StoppedError):
        train_dit(cache, network, tmp_path / "halves", steps=3)
    again = train_dit(cache, network, tmp_path / "halves", steps=3)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "changes", [{}, {"packing": True}, {"clip_deviations": 3.0} | LOSSES, {"accumulate": 3} | ROUTED], ids=str
)
def test_a_step_of_the_dit_waits_for_nothing(gpu, cache, network, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(dit, "report", lambda *_, **__: None)  # both runs would make the same samples
    counts = []
    for steps in (2, 4):
        gpu.waits.clear()
        train_dit(cache, network, tmp_path / str(steps), **(QUIET | changes | {"steps": steps}))
        counts.append(gpu.waits.copy())
    assert waited(counts) == 0  # both runs have the log line of the first step, and a save


def test_a_step_that_goes_wrong_is_told_before_anything_is_kept(gpu, cache, network, tmp_path, monkeypatch):
    draw, drawn = dit.draw_batch, []

    def poisoned(*args: Any, **named: Any) -> Any:
        batch = draw(*args, **named)
        drawn.append(batch)
        if len(drawn) == 8:  # six to judge by, then the second step
            batch.clean.fill_(float("nan"))
        return batch

    monkeypatch.setattr(dit, "draw_batch", poisoned)
    with pytest.raises(ValueError, match="the loss became nan at step 1: lower --learning-rate"):
        train_dit(cache, network, tmp_path, steps=8, save_every=8, snapshots=0, early=0.5)
    assert len(drawn) > 8, "the step after it was begun"
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_a_report_holds_one_model_on_the_gpu_at_a_time(gpu):
    trained, judged = DiT(DITS["test"]).cuda(), DiT(DITS["test"])
    gpu.measuring, gpu.most = True, 0
    before = gpu.bytes_held()
    with taking_turns(trained, judged, device=torch.device("cuda")):
        assert isinstance(next(judged.parameters()), GPUTensor)
    assert gpu.most <= before == gpu.bytes_held()
    assert isinstance(next(trained.parameters()), GPUTensor)


def test_clips_are_encoded_on_the_gpu_and_what_is_kept_is_that_of_the_cpu(gpu, cache, network, tmp_path):
    text, calls = (lambda texts: (torch.zeros(len(texts), 8, 384), torch.ones(len(texts), 8, dtype=torch.bool))), []
    there = copy.deepcopy(network).cuda()
    there.encoder.register_forward_hook(lambda _module, given, _out: calls.append(given[0].is_cuda))
    sent = gpu.bytes_sent
    cache_toy_world(tmp_path, there, text, SIZE, 2)
    assert calls
    assert all(calls)
    assert gpu.bytes_sent - sent == 2 * 3 * 9 * 32 * 32, "clips go to a GPU as bytes"
    pairs = zip(LatentCache(tmp_path).buckets[str(SIZE)], cache.buckets[str(SIZE)], strict=False)
    for (one, _), (other, _) in pairs:
        torch.testing.assert_close(one, other)


def distil(cache: LatentCache, network: VideoVAE, out: Path, **changes: Any) -> DiT:
    torch.manual_seed(0)
    teacher = DiT(DITS["test"]).initialise()
    settings = Distillation(**(DIT | {"student_steps": 2, "substeps": 2} | changes))
    start = Checkpoint(teacher.config, teacher.state_dict())
    return distilling.train(settings, cache, cache, torch.zeros(2, 384), network, out, start, "cuda")


@pytest.mark.parametrize("changes", [{}, {"lora": 2, "cfg": 1.0, "accumulate": 2}], ids=str)
def test_a_dit_is_distilled_and_a_step_waits_for_nothing(gpu, cache, network, tmp_path, monkeypatch, changes):
    distil(cache, network, tmp_path / "whole", **changes)
    assert (tmp_path / "whole" / "samples" / "000002.png").exists()
    monkeypatch.setattr(dit, "report", lambda *_, **__: None)
    counts = []
    for steps in (2, 4):
        gpu.waits.clear()
        distil(cache, network, tmp_path / str(steps), **(QUIET | changes | {"steps": steps}))
        counts.append(gpu.waits.copy())
    assert waited(counts) == 0  # both runs have the log line of the first step, and a save


def waited(counts: list[Any]) -> float:
    """Waits of a step: those of a long run less those of a short one. Copies from pinned memory are none."""
    more = {key: number - counts[0].get(key, 0) for key, number in counts[1].items()}
    waits = {key: number / 2 for key, number in more.items() if number > 0 and "asynchronous" not in key[0]}
    print("\n".join(f"{number:g} x {kind}: {line}" for (kind, line), number in waits.items()))  # noqa: T201
    return sum(waits.values())


@pytest.mark.parametrize("changes", [{}, {"adversarial": 0.1, "adversarial_from": 0.0}], ids=str)
def test_a_vae_is_trained_and_a_step_waits_for_nothing(gpu, tmp_path, changes):
    clips = toy_pixels(0, 2, SIZE)
    start = VideoVAE(PRESETS["test"])
    init = Checkpoint(vae_config=start.config, vae_state=start.state_dict())
    vae.train(vae.VAETraining(**(VAE | changes)), clips, clips, tmp_path / "v", init, device="cuda")
    counts = []
    for steps in (2, 4):
        gpu.waits.clear()
        settings = vae.VAETraining(**(VAE | changes | {"steps": steps, "save_every": 1000, "images": 0.0}))
        vae.train(settings, clips, clips, tmp_path / str(steps), init, device="cuda")
        counts.append(gpu.waits.copy())
    assert waited(counts) == 0


def test_a_captioner_is_trained_and_a_step_waits_for_nothing(gpu, cache, network, tmp_path):
    counts = []
    for steps in (2, 4):
        gpu.waits.clear()
        settings = captioner.CaptionerTraining(preset="test", steps=steps, tokens=32, save_every=steps, warmup=1)
        captioner.train(settings, cache, cache, network, tmp_path / str(steps), None, "cuda")
        counts.append(gpu.waits.copy())
    lines = {key: counts[1][key] - counts[0].get(key, 0) for key in counts[1] if "optimiser.py" in key[1]}
    assert (tmp_path / "4" / "samples" / "000004.png").exists()
    assert sum(lines.values()) == 0
