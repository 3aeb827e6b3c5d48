"""One step's clips: packed into one row, split into parts, computed with checkpoints; always the same gradients."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.files import write_tensors
from comfyui_spacetime.models.flow import PREDICTIONS, target
from comfyui_spacetime.models.training.dit import train as training
from comfyui_spacetime.models.training.dit.batches import Batch, draw_batch, make_batch, pack_batches
from comfyui_spacetime.models.training.dit.initial import build
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.dit.workers import Workers
from comfyui_spacetime.models.training.run.folder import generator
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

SIZES = {"32x32x9": (3, 4, 4), "48x32x17": (5, 4, 6), "32x32x8c": (2, 4, 4)}
PATCHES = {"32x32x9": 12, "48x32x17": 30, "32x32x8c": 8}
EMPTY = torch.full((2, 384), 0.1).bfloat16()


def write_cache(folder: Path, clips: int = 6) -> LatentCache:
    """Random latents of several sizes with two texts each, in the files that `train cache` writes."""
    rng = generator(0, 0)
    for size, shape in SIZES.items():
        lengths = [[3 + i, 9] for i in range(clips)]
        header = {"captions": [["a", "b"]] * clips, "lengths": lengths, "cyclic": size.endswith("c"), "size": size}
        tensors = {
            "latents": torch.randn(clips, 16, *shape, generator=rng).bfloat16(),
            "text": torch.randn(sum(map(sum, lengths)), 384, generator=rng).bfloat16(),
        }
        write_tensors(folder / f"clips-{size}.safetensors", tensors, {"clips": json.dumps(header)})
    return LatentCache(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> LatentCache:
    return write_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def model() -> DiT:
    """Small, and awake everywhere: zeros would hide a wrong gradient."""
    torch.manual_seed(0)
    dit = DiT(PRESETS["test"]).initialise()
    for parameter in dit.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.1)
    return dit


def settings(**changes: object) -> DiTTraining:
    return DiTTraining(**({"preset": "test", "tokens": 120, "dtype": "float32"} | changes))


def single_clips(cache: LatentCache) -> list[Batch]:
    """Five clips of two sizes, an image among them, each a batch of its own."""
    batches = []
    for step, size in enumerate(["32x32x9", "48x32x17", "48x32x17", "32x32x9", "32x32x9"]):
        rng = generator(7, step)
        (example,) = cache.draw(size, 1, rng)
        if step == 3:
            example = example._replace(latents=example.latents[:, :1])
        batches.append(make_batch([example], EMPTY, settings(region=0.5), rng, cyclic=False))
    return batches


def gradients(model: DiT) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def step(model: DiT, batch: Batch, parts: int = 1) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    loss, _ = training.backward(model, batch, Workers(), settings=settings(accumulate=parts), stop=False)
    return float(loss), gradients(model)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], relative: float = 1e-4) -> bool:
    return one.keys() == other.keys() and all(
        float((one[key] - other[key]).norm()) <= relative * float(other[key].norm()) + 1e-9 for key in one
    )


def test_packed_clips_have_the_mean_steadiness_of_separate_ones(cache, model):
    alone = single_clips(cache)
    with torch.no_grad():
        mean, packed = (
            torch.stack([training.batch_loss(model, batch, steadiness=0.5) for batch in batches]).mean()
            for batches in (alone, [pack_batches(alone)])
        )
        plain = training.batch_loss(model, pack_batches(alone))
    torch.testing.assert_close(packed, mean, atol=1e-5, rtol=1e-5)
    assert packed > plain


def test_packed_clips_have_the_mean_loss_and_gradients_of_separate_ones(cache, model):
    alone = single_clips(cache)
    packed = pack_batches(alone)
    assert packed.count == 5
    assert len(packed.clean) == 1
    model.zero_grad(set_to_none=True)
    mean = torch.stack([training.batch_loss(model, batch) for batch in alone]).mean()
    mean.backward()
    expected = gradients(model)
    loss, found = step(model, packed)
    assert loss == pytest.approx(mean.item(), rel=1e-5)
    assert close(found, expected)


def test_packing_fills_a_step_from_all_sizes_and_leaves_little_free(cache):
    drawn = [draw_batch(cache, EMPTY, settings(packing=True), generator(0, i)) for i in range(60)]
    assert all(batch.packed and batch.clean.shape[1] <= 120 for batch in drawn)
    assert all(120 - batch.clean.shape[1] < (8 if batch.cyclic else 4) for batch in drawn)
    assert {batch.cyclic for batch in drawn} == {True, False}
    grids = {grid for batch in drawn if not batch.cyclic for grid in batch.grids}
    assert grids == {(3, 2, 2), (5, 2, 3), (1, 2, 2), (1, 2, 3)}
    assert any(len(set(batch.grids)) > 1 for batch in drawn)
    again = draw_batch(cache, EMPTY, settings(packing=True), generator(0, 5))
    assert torch.equal(again.noise, drawn[5].noise)


def test_a_budget_below_the_smallest_clip_still_takes_one(cache):
    batch = draw_batch(cache, EMPTY, settings(packing=True, tokens=16, mix=(("48x32x17", 1.0),)), generator(0, 1))
    assert batch.count == 1


def test_packed_loops_know_that_they_are_loops(cache, model):
    loops = settings(packing=True, mix=(("32x32x8c", 1.0),))
    batch = draw_batch(cache, EMPTY, loops, generator(0, 0))
    assert batch.cyclic
    assert step(model, batch)[1]["cyclic_embedding"].abs().sum() > 0


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("parts", [2, 3, 50])
def test_accumulated_parts_equal_the_whole_batch(cache, model, packing, parts):
    batch = draw_batch(cache, EMPTY, settings(packing=packing, mix=(("32x32x9", 1.0),)), generator(0, 2))
    whole, expected = step(model, batch)
    loss, found = step(model, batch, parts)
    assert loss == pytest.approx(whole, rel=1e-5)
    assert close(found, expected)


def test_accumulating_in_bf16_rounds_once(cache, model):
    """Sixteen roundings would add up: the parts are summed in fp32."""
    batch = draw_batch(cache, EMPTY, settings(mix=(("32x32x9", 1.0),), tokens=16 * 12), generator(0, 0))
    exact = step(model, batch)[1]
    model.bfloat16()
    whole, parts = step(model, batch)[1], step(model, batch, 16)[1]

    def error(found: dict[str, torch.Tensor]) -> float:
        apart = sum(float((found[key].float() - exact[key]).square().sum()) for key in exact)
        return (apart / sum(float(exact[key].square().sum()) for key in exact)) ** 0.5

    assert error(whole) < 0.02
    assert error(parts) < 0.02


@pytest.mark.parametrize("packing", [True, False])
def test_checkpointing_keeps_gradients_and_less_memory(cache, model, packing):
    batch = draw_batch(cache, EMPTY, settings(packing=packing), generator(0, 2))
    whole, expected = step(model, batch)
    kept = saved_bytes(model, batch)
    model.checkpointing = True
    loss, found = step(model, batch)
    assert loss == whole
    assert close(found, expected, 1e-6)
    assert saved_bytes(model, batch) < 0.6 * kept


def saved_bytes(model: DiT, batch: Batch) -> int:
    """What a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = training.batch_loss(model, batch)
    del loss
    return sum(kept.values())


def train(cache: LatentCache, out: Path, log: str = "", **changes: object) -> DiT:
    short = {"steps": 6, "save_every": 3, "warmup": 2, "early": 0.0, "snapshots": 0, "mix": (("32x32x9", 1.0),)}
    torch.manual_seed(0)
    vae = VideoVAE(VAES["test"])  # each time the same: a run belongs to its VAE
    return training.train(settings(**(short | changes)), cache, cache, torch.zeros(2, 384), vae, out, log=log)


def test_a_run_in_parts_with_checkpoints_equals_a_plain_one(cache, tmp_path):
    plain = train(cache, tmp_path / "plain").state_dict()
    parts = train(cache, tmp_path / "parts", accumulate=3, checkpointing=True).state_dict()
    assert max(float((plain[key] - parts[key]).abs().max()) for key in plain) < 1e-4


def test_a_packed_run_learns_and_resumes_its_own_folder_only(cache, tmp_path):
    train(cache, tmp_path, packing=True, mix=(), steps=40, save_every=20, learning_rate=5e-3)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged = [row["validation_loss"] for row in log if "validation_loss" in row]
    assert judged[-1] < judged[0] < log[0]["loss"]
    with pytest.raises(ValueError, match=r"other settings \(packing\)"):
        train(cache, tmp_path, packing=False, mix=(), steps=40, save_every=20, learning_rate=5e-3)


def test_a_folder_from_before_a_setting_existed_continues(cache, tmp_path):
    train(cache, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for new in ("packing", "accumulate", "checkpointing", "snapshots", "early"):
        del config[new]
    (tmp_path / "config.json").write_text(json.dumps(config))
    train(cache, tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(packing\)"):
        train(cache, tmp_path, packing=True)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"compile": True, "packing": True}, "leave out --compile or pack"),
        ({"accumulate": 0}, "--accumulate is 1 to 1000, not 0"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        settings(**wrong)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_model_is_trained_in_the_unit_that_it_predicts(cache, model, monkeypatch, prediction):
    """A model of any unit that is right has no loss, and one whose unit is taken for another's has."""
    (batch, *_) = single_clips(cache)
    right = target(batch.clean, batch.noise, batch.levels(), prediction)
    monkeypatch.setattr(model, "config", replace(model.config, prediction=prediction))
    monkeypatch.setattr(model, "forward_tokens", lambda *_args, **_named: right)
    assert training.batch_loss(model, batch, steadiness=0.5) == 0
    monkeypatch.setattr(model, "forward_tokens", lambda *_args, **_named: right + 1)
    assert training.batch_loss(model, batch) == pytest.approx(1)


def test_a_model_that_predicts_its_variance_is_refused():
    config = replace(PRESETS["test"], learned_variance=True)
    with pytest.raises(ValueError, match="predicts its own variance too"):
        build(settings(), Checkpoint(config, {}, None, {}, {}))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 1, 2)])
def test_clips_are_cut_into_the_patches_of_the_model(cache, packing, patch):
    chosen = settings(packing=packing, mix=(("32x32x9", 1.0),), images=0.0)
    batch = draw_batch(cache, EMPTY, chosen, generator(0, 1), patch)
    assert {tuple(grid) for grid in batch.grids} == {(3, 4 // patch[1], 4 // patch[2])}
    assert batch.clean.shape[-1] == 16 * patch[1] * patch[2]
    assert batch.clean.shape[1] * (1 if packing else batch.count) <= 120
