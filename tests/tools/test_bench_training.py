"""The training benchmark compares like with like: equal losses packed, padded and in batches by size."""

from dataclasses import replace

import pytest
import torch

from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.training.dit.batches import pack_batches
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.dit.train import batch_loss
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.tools.bench import packed_steps, recipes, routed_steps, training


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(training, "SHAPE", {"hidden_size": 48, "depth": 2, "num_heads": 2})
    monkeypatch.setattr(training, "IMAGES", 2)
    monkeypatch.setattr(packed_steps, "CLIPS", {(2, 4, 4): 2, (3, 4, 8): 1, (1, 4, 4): 1})
    monkeypatch.setattr(routed_steps, "CLIP", (2, 4, 4))
    monkeypatch.setattr(routed_steps, "COUNT", 2)
    for module in (training, packed_steps, routed_steps):
        monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setitem(PRESETS, "toy", replace(PRESETS["test"], depth=5))


def test_the_three_ways_have_the_same_loss():
    torch.manual_seed(0)
    model = DiT(PRESETS["test"]).initialise()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    singles = packed_steps.clip_batches(packed_steps.CLIPS)
    with torch.no_grad():
        packed = float(batch_loss(model, pack_batches(singles)))
        padded = float(packed_steps.padded_loss(model, *packed_steps.pad_batches(singles)))
        batches = packed_steps.by_size(singles)
        buckets = sum(float(batch_loss(model, batch)) * batch.count for batch in batches) / len(singles)
    assert len(batches) == 3
    assert packed == pytest.approx(padded, rel=1e-5)
    assert packed == pytest.approx(buckets, rel=1e-5)


def test_rows_of_steps_and_packing():
    pytest.importorskip("diffusers")
    found = [*training.step_rows(torch.float32), *packed_steps.packing_rows(torch.float32)]
    found += [packed_steps.one_size_row(torch.float32), routed_steps.routed_row(torch.float32)]
    for row in found:
        assert list(row) == ["name", "ours", "reference", "ratio", "note"]
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
    assert "MFU" in found[0]["note"]


def test_both_loops_learn_and_count_their_products():
    pytest.importorskip("diffusers")
    for side in (training.our_step(torch.float32), training.plain_step(torch.float32)):
        first = float(side.loss())
        for _ in range(20):
            side.run()
        assert float(side.loss()) < first
        weights = sum(p.numel() for n, p in side.model.named_parameters() if "block" in n and "cross" not in n)
        assert side.flops() > 6 * 0.3 * weights * 256 * 2  # most weights meet each patch three times


def test_kinds_that_are_rare_in_uneven_clips_lose_three_in_four():
    kinds = ["bounce"] * 8 + ["fall"] * 8 + ["roll"] * 4
    cache = LatentCache.__new__(LatentCache)
    cache.classes = {"32x32x9": kinds}
    cache.buckets = {"32x32x9": [(torch.tensor(i), []) for i in range(20)]}
    cache.known = {"32x32x9": [torch.tensor(i) for i in range(20)]}
    rare = recipes.rare_kinds(cache)
    assert rare == {"bounce", "roll"}
    left = recipes.thinned(cache, rare)
    assert left.classes["32x32x9"] == ["bounce"] * 2 + ["fall"] * 8 + ["roll"]
    numbers = [int(latents) for latents, _ in left.buckets["32x32x9"]]
    assert numbers == [0, 4, *range(8, 16), 16] == [int(known) for known in left.known["32x32x9"]]


def test_a_run_in_equal_time_has_the_steps_that_the_other_had_time_for():
    found = {name: [recipes.Result(1.0, 1.0, 8.0 if name == "routed" else 10.0, 100)] for name in recipes.RUNS}
    steps = {name: recipes.settings_of(run, DiTTraining(steps=100), found).steps for name, run in recipes.RUNS.items()}
    assert steps.pop("routed, in equal time") == 125
    assert set(steps.values()) == {100}


def test_changes_are_those_of_pairs():
    values = {"plain": [1.0, 2.0], "routed": [0.9, 1.8]}
    found = {name: [recipes.Result(loss, loss, 1.0, 10) for loss in losses] for name, losses in values.items()}
    row = recipes.row("routed", found)
    assert row["change"] == pytest.approx(-0.15)
    assert row["spread"] == pytest.approx(0.1 / 2**0.5)
