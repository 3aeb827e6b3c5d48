"""Clips of rare classes drawn more often."""

from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.shards import read_shard, write_shard
from comfyui_spacetime.models.training.dit.batches import draw_batch
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.dit.train import judged_batches, train
from comfyui_spacetime.models.training.run.folder import generator
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE

SIZE, EMPTY = "32x32x9", torch.zeros(2, 384)
PLAIN = {"preset": "test", "dtype": "float32", "images": 0.0, "steps": 1, "snapshots": 0, "early": 0.0}


def cache_of(folder: Path, classes: list[str]) -> LatentCache:
    """Clips whose latents are their number everywhere."""
    folder.mkdir(exist_ok=True)
    latents = [torch.full((16, 3, 4, 4), float(number)) for number in range(len(classes))]
    texts, features = [["a ball"]] * len(classes), [torch.zeros(2, 384)] * len(classes)
    described = {"size": SIZE, "cyclic": False, "fps": 12.0}
    write_shard(folder / f"{len(classes)}.safetensors", latents, texts, classes, features, described)
    return LatentCache(folder)


@pytest.fixture
def uneven(tmp_path) -> LatentCache:
    """Of sixteen clips twelve fall, three roll and one has no class."""
    return cache_of(tmp_path / "clips", ["fall"] * 12 + ["roll"] * 3 + [""])


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_a_class_is_drawn_by_a_power_of_its_count(uneven, balance, packing):
    settings = DiTTraining(**PLAIN, balance=balance, packing=packing, tokens=12 * 100)
    batches = [draw_batch(uneven, EMPTY, settings, generator(0, step)) for step in range(30)]
    places = 1 if packing else 0
    clips = torch.cat([batch.clean for batch in batches], dim=places).reshape(-1, 12, 64)[:, 0, 0]
    assert len(clips) == 3000
    expected = torch.tensor([count ** (1 - balance) for count in (12.0, 3.0, 1.0)])
    found = torch.tensor([(clips < 12).sum(), ((clips >= 12) & (clips < 15)).sum(), (clips == 15).sum()]) / 3000
    torch.testing.assert_close(found, expected / expected.sum(), atol=0.04, rtol=0)
    assert len(clips.unique()) == 16  # within a class all alike


def test_without_balance_the_clips_of_a_step_are_those_of_before(uneven):
    """One draw for the caption, one for the clips: what runs that were begun before go on with."""
    rng = generator(3, 0)
    torch.randint(1, (1,), generator=rng)
    expected = torch.randint(16, (20,), generator=rng).tolist()
    drawn = uneven.draw(SIZE, 20, generator(3, 0))
    assert [int(example.latents[0, 0, 0, 0]) for example in drawn] == expected


def test_the_weights_follow_when_clips_are_added(uneven):
    assert len(uneven.balanced(SIZE, 1.0)) == 16
    cache_of(uneven.folder, ["roll"] * 9)
    uneven._add(*read_shard(uneven.folder / "9.safetensors"))
    assert uneven.balanced(SIZE, 1.0).tolist() == pytest.approx([1 / 12] * 12 + [1 / 12] * 3 + [1.0] + [1 / 12] * 9)


def test_runs_are_judged_alike_whatever_their_balance(uneven):
    plain, balanced = (DiTTraining(**PLAIN, balance=value, tokens=48) for value in (0.0, 1.0))
    pairs = zip(
        judged_batches(plain, uneven, EMPTY, (1, 2, 2)),
        judged_batches(balanced, uneven, EMPTY, (1, 2, 2)),
        strict=True,
    )
    assert all(torch.equal(a.clean, b.clean) for a, b in pairs)


@pytest.mark.parametrize("classes", [[""] * 3, ["fall"] * 3])
def test_clips_of_one_class_cannot_be_balanced(tmp_path, classes):
    clips = cache_of(tmp_path / "clips", classes)
    with pytest.raises(ValueError, match="are all of one class: put each class into a sub-folder, or leave out"):
        train(DiTTraining(**PLAIN, balance=1.0), clips, clips, EMPTY, VideoVAE(PRESETS["test"]), tmp_path / "run")
