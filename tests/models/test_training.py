"""Training: noise levels, optimiser, cache, and runs that continue to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache, stack_text
from comfyui_spacetime.models.clips.toy import cache_toy_world, toy_clip
from comfyui_spacetime.models.files import read_tensors, write_tensors
from comfyui_spacetime.models.flow import PathPoint
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.patches import Grid
from comfyui_spacetime.models.pixels import from_uint8, to_uint8
from comfyui_spacetime.models.training.dit import train as dit_training
from comfyui_spacetime.models.training.dit.losses import (
    flow_loss,
    sample_levels,
    sample_region,
    sample_sigmas,
    steadiness_loss,
)
from comfyui_spacetime.models.training.optim.muon import orthogonalise
from comfyui_spacetime.models.training.optim.optimiser import EMA, Optimiser, learning_rate_scale
from comfyui_spacetime.models.training.run.folder import Run, generator
from comfyui_spacetime.models.training.vae import train as vae_training
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAE_PRESETS
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

SIZE = ClipSize(32, 32, 9)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> LatentCache:
    """Twelve rendered clips, encoded by an untrained VAE; texts are features of a stand-in for the text encoder."""
    folder = tmp_path_factory.mktemp("cache")
    torch.manual_seed(0)

    def encoder(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([min(len(text), 40) for text in texts])
        return torch.randn(len(texts), 40, 384), torch.arange(40) < lengths[:, None]

    cache_toy_world(folder, VideoVAE(VAE_PRESETS["test"]), encoder, SIZE, 12)
    return LatentCache(folder)


# -- noise levels ------------------------------------------------------------------------------------------------------


def test_levels_lie_between_clean_and_noise_and_always_leave_something_to_learn():
    levels = sample_levels(400, (9, 6, 6), seeded())
    assert levels.shape == (400, 9)
    assert ((levels >= 0) & (levels < 1)).all()
    assert (levels > 0).any(dim=1).all()
    shared = (levels == levels[:, :1]).all(dim=1).float().mean()
    known = (levels == 0).any(dim=1).float().mean()
    assert 0.4 < shared < 0.6  # half of the clips have one level
    assert 0.2 < known < 0.4
    assert (levels[:, 0] == 0).sum() > (levels[:, 4] == 0).sum()  # first frames are known most often


def test_images_have_one_level():
    assert sample_levels(8, (1, 6, 6), seeded()).gt(0).all()


def test_regions_are_never_empty():
    regions = torch.stack([sample_region((3, 4, 5), seeded(i)) for i in range(100)])
    assert regions.shape == (100, 60)
    assert regions.any(dim=1).all()
    assert set(regions.unique().tolist()) == {0.0, 1.0}


def test_sigmas_follow_the_logit_normal():
    sigmas = sample_sigmas(20_000, seeded(), mean=0.4, std=1.0, uniform=0.0)
    logits = torch.logit(sigmas)
    assert abs(logits.mean() - 0.4) < 0.03
    assert abs(logits.std() - 1.0) < 0.03


def test_the_loss_is_zero_for_the_true_velocity_and_ignores_known_patches():
    clean, noise = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    sigma = torch.tensor([[0.5] * 6, [0.0, 0.0, 0.9, 0.9, 0.9, 0.9]])
    truth = noise - clean
    point = PathPoint.between(clean, noise, sigma)
    assert flow_loss(truth, point) == 0
    wrong_where_known = truth.clone()
    wrong_where_known[1, :2] += 100
    assert flow_loss(wrong_where_known, point) == 0
    assert flow_loss(truth + 1, point) == pytest.approx(1)


@pytest.mark.parametrize("cyclic", [False, True])
def test_steadiness_is_about_errors_that_differ_from_frame_to_frame(cyclic):
    grid = Grid(4, 1, 2)
    clean, noise = torch.randn(2, 2, 8, 4, generator=seeded())
    everywhere, truth = torch.full((2, 8), 0.5), noise - clean

    def loss(prediction, sigma=everywhere):
        return float(steadiness_loss(prediction, PathPoint.between(clean, noise, sigma), [grid], cyclic=cyclic))

    assert loss(truth) == 0
    assert loss(truth + 1) == pytest.approx(0, abs=1e-6), "the same error in all frames"
    first = truth.clone()
    first[:, :2] += 1
    # one of three changes, or, round a circle, two of four
    assert loss(first) == pytest.approx(0.5 if cyclic else 1 / 3, rel=1e-4)
    known = everywhere.clone()
    known[:, :2] = 0
    assert loss(first, known) == 0, "known frames have no error"
    assert loss(truth + 1, known) == pytest.approx(0.5 if cyclic else 1 / 3, rel=1e-4), "but those beside them do"
    still = Grid(1, 2, 4)
    assert float(steadiness_loss(truth + 1, PathPoint.between(clean, noise, everywhere), [still], cyclic=cyclic)) == 0


def test_a_negative_steadiness_is_refused():
    with pytest.raises(ValueError, match="--steadiness is 0"):
        dit_training.DiTTraining(steadiness=-1)


# -- optimiser ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonalise_brings_singular_values_near_one(shape):
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=seeded())))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_optimiser_reaches_the_minimum_of_a_quadratic():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"blocks": torch.nn.Linear(6, 6), "head": torch.nn.Linear(6, 6)})
    goal = torch.randn(6, 6)
    optimiser = Optimiser(model, learning_rate=0.1, weight_decay=0)
    assert optimiser.muon == {"blocks.weight"}
    for step in range(300):
        loss = sum((layer.weight - goal).square().sum() for layer in model.values())
        loss.backward()
        optimiser.step(learning_rate_scale(step, 300, warmup=1, decay=1.0))
    assert max(float((layer.weight - goal).abs().max()) for layer in model.values()) < 0.1


def test_bf16_models_keep_small_updates_in_their_masters():
    model = torch.nn.Linear(4, 4, bias=False).bfloat16()
    before = model.weight.detach().clone()
    optimiser = Optimiser(model, learning_rate=1e-6, weight_decay=0)
    for _ in range(3):
        model.weight.grad = torch.ones_like(model.weight)
        optimiser.step()
    assert torch.equal(model.weight, before)  # too small for bf16
    assert (optimiser.masters["weight"] - before.float()).abs().min() > 2e-6  # but not lost


def test_ema_of_a_constant_is_the_constant_and_follows_a_change():
    weights = {"w": torch.ones(3)}
    average = EMA(weights)
    for step in range(1, 101):
        average.update(weights, step)
    assert torch.allclose(average.weights["w"], torch.ones(3))
    for step in range(101, 201):
        average.update({"w": torch.zeros(3)}, step)
    assert average.weights["w"].max() < 0.01  # (1/2)^7.94: the profile looks back over a fixed share of the run


def test_learning_rate_warms_up_stays_and_ends_at_zero():
    scales = [learning_rate_scale(step, 100, warmup=10, decay=0.3) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[50] == 1
    assert scales[100] == 0


# -- files -------------------------------------------------------------------------------------------------------------


def test_checkpoint_round_trip(tmp_path):
    dit, vae = DiT(PRESETS["test"]), VideoVAE(VAE_PRESETS["test"])
    path = tmp_path / "both.safetensors"
    save_checkpoint(path, Checkpoint(dit.config, dit.state_dict(), vae.config, vae.state_dict(), {"steps": 3}))
    loaded = load_checkpoint(path)
    assert loaded.meta == {"steps": 3}
    assert loaded.dit_config == dit.config
    assert all(torch.equal(loaded.dit().state_dict()[k], v) for k, v in dit.state_dict().items())
    assert all(torch.equal(loaded.vae().state_dict()[k], v) for k, v in vae.state_dict().items())


def test_broken_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, Checkpoint(DiT(PRESETS["test"]).config, DiT(PRESETS["test"]).state_dict()))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_checkpoint(path)
    write_tensors(path, {"blocks.0.x": torch.ones(1), "head.modulation": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="looks like a Wan model"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="holds no VAE"):
        Checkpoint(DiT(PRESETS["test"]).config).vae()
    write_tensors(path, {}, {"spacetime": json.dumps({"format": 1, "dit": {"hidden_size": 3}, "vae": None})})
    with pytest.raises(ValueError, match="update the pack, or download or train the file again"):
        load_checkpoint(path)


def test_pixels_survive_the_round_trip_to_uint8():
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_uint8(from_uint8(frames)), frames)


@pytest.mark.parametrize("text", ["96x96", "100x96x33", "96x96x32", "96x96x33c", "axbxc"])
def test_wrong_clip_sizes_are_refused(text):
    with pytest.raises(ValueError, match="clip size"):
        ClipSize.parse(text)


def test_clip_sizes_round_trip():
    assert [str(ClipSize.parse(text)) for text in ("96x64x33", "96x96x32c")] == ["96x64x33", "96x96x32c"]


# -- cache and runs ----------------------------------------------------------------------------------------------------


def test_toy_clips_are_reproducible_and_differ():
    frames, texts = toy_clip(5, SIZE)
    again, same = toy_clip(5, SIZE)
    assert np.array_equal(frames, again)
    assert texts == same
    assert not np.array_equal(frames, toy_clip(6, SIZE)[0])


def test_cache_holds_each_clip_with_its_texts(cache):
    bucket = cache.buckets["32x32x9"]
    assert len(bucket) == 12
    latents, texts = bucket[0]
    assert latents.shape == (16, 3, 4, 4)
    assert len(texts) == 8
    assert cache.captions["32x32x9"][3] == toy_clip(3, SIZE)[1]


def test_stacked_texts_are_padded_and_masked():
    context, mask = stack_text([torch.ones(3, 4), torch.ones(9, 4)], sizes=(8, 16))
    assert context.shape == (2, 16, 4)
    assert mask.sum(dim=1).tolist() == [3, 9]
    assert context[~mask].abs().sum() == 0


def tiny(**changes: object) -> dit_training.DiTTraining:
    values = {"preset": "test", "steps": 8, "tokens": 48, "save_every": 4, "dtype": "float32", "warmup": 2}
    return dit_training.DiTTraining(**(values | changes))


def run_dit(cache: LatentCache, out: Path, settings: dit_training.DiTTraining) -> dict[str, torch.Tensor]:
    empty = torch.zeros(2, 384)
    torch.manual_seed(0)
    vae = VideoVAE(VAE_PRESETS["test"])  # that of the cache
    return dit_training.train(settings, cache, cache, empty, vae, out).state_dict()


class KilledError(Exception):
    """Stands for the moment a process dies between two steps."""


@pytest.mark.parametrize("dies_at", [5, 7])
def test_a_killed_run_continues_to_the_bit(cache, tmp_path, monkeypatch, dies_at):
    whole = run_dit(cache, tmp_path / "whole", tiny())
    draw = dit_training.draw_batch

    def dying(*args: object, **named: object) -> object:
        rng = args[-1]
        assert isinstance(rng, torch.Generator)
        if rng.initial_seed() == generator(0, dies_at).initial_seed():
            raise KilledError
        return draw(*args, **named)

    monkeypatch.setattr(dit_training, "draw_batch", dying)
    with pytest.raises(KilledError):
        run_dit(cache, tmp_path / "killed", tiny())
    monkeypatch.setattr(dit_training, "draw_batch", draw)
    resumed = run_dit(cache, tmp_path / "killed", tiny())
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    log = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 8
    assert "validation_loss" in log[-1]
    assert (tmp_path / "killed" / "samples" / "000008.png").exists()


def test_training_lowers_the_loss(cache, tmp_path):
    run_dit(cache, tmp_path, tiny(steps=60, tokens=96, save_every=30, learning_rate=5e-3))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    validation = [row["validation_loss"] for row in log if "validation_loss" in row]
    assert validation[-1] < 0.95 * log[0]["loss"]


def test_another_runs_folder_is_refused(cache, tmp_path):
    run_dit(cache, tmp_path, tiny(steps=4))
    with pytest.raises(ValueError, match="other settings"):
        run_dit(cache, tmp_path, tiny(steps=4, seed=1))


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(cache, tmp_path, monkeypatch):
    settings = tiny(steps=8)
    draw, count = dit_training.draw_batch, iter(range(100))

    def poisoned(*args: object, **named: object) -> dit_training.Batch:
        batch = draw(*args, **named)
        if next(count) >= 11:  # six held-out batches, then five steps
            batch.clean.fill_(float("nan"))
        return batch

    monkeypatch.setattr(dit_training, "draw_batch", poisoned)
    with pytest.raises(ValueError, match="became nan at step 5: lower --learning-rate"):
        run_dit(cache, tmp_path, settings)
    assert read_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == "4"


def test_vae_training_improves_on_its_linear_start(tmp_path):
    clips = [from_uint8(toy_clip(i, ClipSize(32, 32, 9))[0]) for i in range(6)]
    settings = vae_training.VAETraining(
        preset="test", steps=40, batch=2, crop=32, frames=(9,), save_every=40, dtype="float32", learning_rate=3e-3
    )
    vae_training.train(settings, clips, clips[:2], tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    scores = [row["psnr"] for row in log if "psnr" in row]
    assert scores[-1] > scores[0]
    vae = load_checkpoint(tmp_path / "vae.safetensors").vae()
    latents = torch.cat([vae.encode(clip[None]).flatten(2)[0] for clip in clips], dim=1)
    assert latents.mean(dim=1).abs().max() < 1e-3  # statistics are stored
    assert latents.std(dim=1).sub(1).abs().max() < 1e-3


def test_a_runs_folder_keeps_its_config(tmp_path):
    Run(tmp_path, {"a": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 1}
