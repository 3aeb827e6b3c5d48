"""The script for minutes on a card, at a tiny size on the CPU: all parts in a row, and what is carried away."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models.captioner.captioner import load_captioner
from comfyui_spacetime.models.checkpoints import load_checkpoint
from comfyui_spacetime.models.clips.shards import peek
from comfyui_spacetime.models.generate import Models, generate
from comfyui_spacetime.models.text.encoder import load_text_encoder
from comfyui_spacetime.tools.card import encode, parts, render, train


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A work folder after all parts."""
    folder = tmp_path_factory.mktemp("card")
    for name in ("rendered", "encoded", "clips", "kept"):
        (folder / name).mkdir()
    options = argparse.Namespace(
        work=folder,
        keep=folder / "kept",
        minutes=0.0,
        device="cpu",
        learning_rate=1e-3,
        alignment=0.0,
        rank=2,
        files=4,
        steps=4,
        compile=False,
        tiny=True,
    )
    for size, start in render.order(render.TINY, 6):
        render.render_file(folder / "rendered", size, start, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.GrowingCache, "grow", lambda _: None)  # no clips come later
        train.train_vae(options)
        vae, encoder = load_checkpoint(folder / "vae.safetensors").vae(), load_text_encoder()
        for path in sorted((folder / "rendered").glob("*.safetensors")):
            encode.encode_file(path, folder, vae, encoder, None, render.read_file(path))
        for part in ("pair", "dit", "distilled", "captioner"):
            train.PARTS[part](options)
    return folder


def test_files_are_in_the_shares_of_the_mix_however_early_it_ends():
    tasks = render.order(render.MIX, 200)
    assert len(set(tasks)) == 200
    for end in (40, 200):
        for size, share in render.MIX.items():
            assert abs(sum(name == size for name, _ in tasks[:end]) - share * end) <= 1.5


def test_what_is_rendered_is_cached_with_the_truth_and_removed(work):
    assert not list((work / "rendered").iterdir())
    shards = [peek(path) for path in (work / "clips").glob("*.safetensors")]
    assert {shard.size for shard in shards} == set(render.TINY)
    assert all(len(shard.captions) == 5 and all(len(lines) == 8 for lines in shard.captions) for shard in shards)


def test_all_parts_leave_what_runs(work):
    kept = work / "kept"
    checkpoint = load_checkpoint(kept / "bundle.safetensors")
    frames = generate(
        Models.load(checkpoint, dtype=torch.float32), ["a red ball"], num_frames=5, height=32, width=32, steps=2
    )
    assert frames[0].shape == (5, 32, 32, 3)
    assert load_captioner(kept / "captioner.safetensors").config.in_channels == 16
    assert (kept / "lora.safetensors").exists()
    for run in ("vae", "decoder", "dit", "distilled", "captioner"):
        assert json.loads((kept / f"{run}.jsonl").read_text().splitlines()[-1])["time"] >= 0
    assert json.loads((work / "alignment.json").read_text())["alignment"] in (0.0, train.ALIGNMENT)


def test_a_large_file_is_carried_in_parts_and_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST", 1000)
    whole = tmp_path / "model.safetensors"
    whole.write_bytes(bytes(range(256)) * 10)
    (tmp_path / "kept").mkdir()
    pieces = parts.keep(whole, tmp_path / "kept")
    assert [piece.name for piece in pieces] == [f"model.safetensors.{number:03d}" for number in range(3)]
    parts.join(pieces[::-1], tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == whole.read_bytes()
    with pytest.raises(ValueError, match="part 001 of again is missing"):
        parts.join([pieces[0], pieces[2]], tmp_path / "again")
