"""What is made from something says from what, and nothing is used that was made from something else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint, joined, load_checkpoint, save_checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.toy import cache_toy_world
from comfyui_spacetime.models.files import read_tensors, write_tensors
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.training import __main__ as shell
from comfyui_spacetime.models.training.captioner.train import CaptionerTraining
from comfyui_spacetime.models.training.captioner.train import train as train_captioner
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.dit.train import train as train_dit
from comfyui_spacetime.models.training.run.folder import Run, differences
from comfyui_spacetime.models.training.vae.train import VAETraining
from comfyui_spacetime.models.training.vae.train import train as train_vae
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE, fingerprint

SIZE = ClipSize(32, 32, 9)
EMPTY = torch.zeros(2, 384).bfloat16()
SHORT = {"steps": 2, "save_every": 2, "dtype": "float32", "preset": "test"}


def encoder(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stands for the text encoder."""
    return torch.ones(len(texts), 4, 384), torch.ones(len(texts), 4, dtype=torch.bool)


def vae_of(seed: int) -> VideoVAE:
    torch.manual_seed(seed)
    return VideoVAE(PRESETS["test"]).eval()


def toy(folder: Path, vae: VideoVAE, count: int, **more: int) -> LatentCache:
    cache_toy_world(folder, vae, encoder, SIZE, count, **more)
    return LatentCache(folder)


def clips_in(cache: LatentCache) -> int:
    return sum(map(len, cache.buckets.values()))


# -- the cache of the toy world ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(8, 20), (20, 8), (8, 8), (5, 3)])
def test_a_cache_holds_as_many_clips_as_were_asked_for_last(tmp_path, monkeypatch, before, after):
    monkeypatch.setattr("comfyui_spacetime.models.clips.toy.SHARD", 4)
    vae = vae_of(0)
    toy(tmp_path, vae, before)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cache = toy(tmp_path, vae, after)
    assert clips_in(cache) == after
    fresh = toy(tmp_path / "fresh", vae, after)
    assert cache.captions == fresh.captions
    assert cache.clips_mark == fresh.clips_mark
    full = min(before, after) // 4  # whole files of both need not be made again
    assert sum(path in kept and path.stat().st_mtime_ns == kept[path] for path in tmp_path.glob("*.saf*")) >= full


def test_a_cache_keeps_no_latents_of_the_vae_before(tmp_path):
    toy(tmp_path, vae_of(0), 3)
    said = cache_toy_world(tmp_path, vae_of(1), encoder, SIZE, 3)
    assert any("latents of another VAE" in line for line in said)
    assert LatentCache(tmp_path).vae == fingerprint(vae_of(1))
    assert clips_in(LatentCache(tmp_path)) == 3


def test_other_sizes_and_further_clips_are_added(tmp_path):
    vae = vae_of(0)
    toy(tmp_path, vae, 3)
    cache_toy_world(tmp_path, vae, encoder, ClipSize(48, 32, 9), 2)
    assert clips_in(toy(tmp_path, vae, 2, first=100)) == 7
    assert clips_in(toy(tmp_path, vae, 3)) == 7


# -- runs --------------------------------------------------------------------------------------------------------------


def dit_run(out: Path, cache: LatentCache, vae: VideoVAE, **more: object) -> None:
    train_dit(DiTTraining(**SHORT, tokens=48), cache, cache, EMPTY, vae, out, **more)


def captioner_run(out: Path, cache: LatentCache, vae: VideoVAE, **more: object) -> None:
    train_captioner(CaptionerTraining(**SHORT, tokens=48), cache, cache, vae, out, **more)


RUNS = {"dit": dit_run, "captioner": captioner_run}


@pytest.mark.parametrize("kind", RUNS)
def test_latents_of_another_vae_are_refused_by_every_run(tmp_path, kind):
    cache = toy(tmp_path / "cache", vae_of(0), 3)
    with pytest.raises(ValueError, match="are latents of another VAE"):
        RUNS[kind](tmp_path / "run", cache, vae_of(1))
    assert not (tmp_path / "run").exists()


def changed_captions(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        tensors, header = read_tensors(path)
        described = json.loads(header["clips"])
        described["captions"][0][0] = "something else"
        write_tensors(path, tensors, {"clips": json.dumps(described)})


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("what", ["the captions", "the clips", "the VAE"])
def test_a_run_says_in_words_what_changed_since_it_began(tmp_path, kind, what):
    vae, folder, out = vae_of(0), tmp_path / "cache", tmp_path / "run"
    RUNS[kind](out, toy(folder, vae, 3), vae)
    RUNS[kind](out, toy(folder, vae, 3), vae)  # what did not change goes on
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    if what == "the captions":
        changed_captions(folder)
    elif what == "the clips":
        toy(folder, vae, 5)
    else:
        vae = vae_of(1)
        toy(folder, vae, 3)
    with pytest.raises(ValueError, match=f"^{what} changed since the run in .*run began: choose another name"):
        RUNS[kind](out, LatentCache(folder), vae)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_a_run_is_not_continued_from_another_start(tmp_path):
    vae = vae_of(0)
    cache = toy(tmp_path / "cache", vae, 3)
    first, other = (Checkpoint(DITS["test"], DiT(DITS["test"]).initialise().state_dict()) for _ in range(2))
    dit_run(tmp_path / "run", cache, vae, init=first)
    dit_run(tmp_path / "run", cache, vae, init=first)
    other.dit_state["head.weight" if "head.weight" in other.dit_state else next(iter(other.dit_state))].add_(1)
    with pytest.raises(ValueError, match="the model that it started from changed since"):
        dit_run(tmp_path / "run", cache, vae, init=other)


def test_a_vae_run_is_not_continued_with_other_clips(tmp_path):
    clips = [torch.randint(0, 256, (3, 9, 32, 32), dtype=torch.uint8) for _ in range(4)]
    settings = VAETraining(**SHORT, batch=1, crop=32, frames=(9,))
    train_vae(settings, clips, clips[:1], tmp_path, data="4 clips")
    with pytest.raises(ValueError, match=r"^the clips changed since the run in"):
        train_vae(settings, clips, clips[:1], tmp_path, data="5 clips")


@pytest.mark.parametrize("kind", RUNS)
def test_runs_and_caches_of_before_there_were_marks_go_on(tmp_path, kind):
    vae, folder, out = vae_of(0), tmp_path / "cache", tmp_path / "run"
    toy(folder, vae, 3)
    (path,) = folder.glob("*.safetensors")
    tensors, header = read_tensors(path)
    described = json.loads(header["clips"])
    del described["made_from"]
    write_tensors(path, tensors, {"clips": json.dumps(described)})
    cache = LatentCache(folder)
    assert cache.vae == fingerprint(vae), "the name of the file told it before"
    RUNS[kind](out, cache, vae)
    config = json.loads((out / "config.json").read_text())
    for name in ("clips", "captions", "init", *(["vae"] if kind == "dit" else [])):
        del config[name]
    (out / "config.json").write_text(json.dumps(config))
    RUNS[kind](out, cache, vae)
    assert clips_in(toy(folder, vae, 3)) == 3


def test_settings_and_what_a_run_is_made_from_are_told_apart(tmp_path):
    before = {"steps": 4, "captions": "a", "shards": ["x"], "vae": "1"}
    said = differences(before, before | {"steps": 5, "captions": "b", "shards": ["y"]}, tmp_path)
    assert said == f"{tmp_path} holds a run with other settings (steps), and the captions changed since it began"
    assert differences(before, before | {"shards": ["y"]}, tmp_path).startswith("the clips or their captions changed")
    assert differences(before, before, tmp_path) == ""


# -- a DiT and its VAE -------------------------------------------------------------------------------------------------


def test_only_the_vae_of_its_training_is_bundled_with_a_dit(tmp_path):
    vae, other = vae_of(0), vae_of(1)
    dit_run(tmp_path / "run", toy(tmp_path / "cache", vae, 3), vae)
    dit = load_checkpoint(tmp_path / "run" / "dit.safetensors")
    own, wrong = (Checkpoint(vae_config=PRESETS["test"], vae_state=one.state_dict()) for one in (vae, other))
    save_checkpoint(tmp_path / "other.safetensors", wrong)
    bundle = joined(dit, own)
    again = joined(bundle, bundle)  # a bundle's own VAE, in bf16, is the same one
    assert again.dit_config == dit.dit_config
    for one in (dit, bundle, again):
        with pytest.raises(
            ValueError, match=r"was trained on latents of the VAE .* join it with the one of its training"
        ):
            joined(one, wrong)
    unknown = Checkpoint(dit.dit_config, dit.dit_state)
    assert joined(unknown, wrong).vae_config is not None, "old files do not tell"
    arguments = [
        "bundle",
        "--dit",
        str(tmp_path / "run" / "dit.safetensors"),
        "--vae",
        str(tmp_path / "other.safetensors"),
    ]
    with pytest.raises(ValueError, match="was trained on latents of the VAE"):
        shell.run(shell.parser().parse_args([*arguments, "--out", str(tmp_path / "both.safetensors")]))
    assert not (tmp_path / "both.safetensors").exists()


# -- damaged files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_shard_is_read_or_refused_in_one_sentence_and_made_anew(tmp_path, seed, whole_shard):
    rng, (name, content) = np.random.default_rng(seed), whole_shard
    data = bytearray(content)
    header = int.from_bytes(data[:8], "little")
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(0, 8 + header if rng.random() < 0.9 else len(data)))
        data[place : place + int(rng.integers(0, 4))] = rng.bytes(int(rng.integers(0, 4)))
    (tmp_path / name).write_bytes(bytes(data))
    said = "build the cache again"
    try:
        LatentCache(tmp_path)
    except ValueError as error:
        said = str(error)
    assert "build the cache again" in said
    assert "\n" not in said
    assert clips_in(toy(tmp_path, vae_of(0), 3)) == 3 or (tmp_path / name).exists()


@pytest.fixture(scope="module")
def whole_shard(tmp_path_factory) -> tuple[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    toy(folder, vae_of(0), 3)
    (path,) = folder.glob("*.safetensors")
    return path.name, path.read_bytes()


@pytest.mark.parametrize("seed", range(50))
def test_a_mutated_log_never_stops_who_shows_it(tmp_path, seed):
    from comfyui_spacetime.models.training.run.chart import progress_picture

    rng = np.random.default_rng(seed)
    rows = [{"time": 1.0, "step": 20 * n, "loss": 1.0 / (n + 1), "psnr": 20.5, "words": 0.5} for n in range(6)]
    odd = [{"step": "x"}, {"step": None, "loss": 1}, {"step": 1e308, "loss": 2}, {"step": 3, "loss": "a"}, [1], 3]
    odd += [{"step": 5, "loss": float("nan")}, {"step": 6, "loss": 10**400}, {"step": -1, "loss": 1}, {"step": True}]
    data = bytearray("".join(f"{json.dumps(row)}\n" for row in [*rows, odd[seed % len(odd)]]).encode())
    for _ in range(int(rng.integers(0, 6))):
        place = int(rng.integers(len(data)))
        data[place : place + int(rng.integers(0, 4))] = rng.bytes(int(rng.integers(0, 4)))
    (tmp_path / "log.jsonl").write_bytes(bytes(data))
    assert progress_picture(tmp_path, 100).width > 0


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 9999, '{"steps": 1e999}', "\ud83d", '{"a":'])
def test_a_damaged_config_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"mend it, or choose another folder|save it as UTF-8") as error:
        Run(tmp_path, {"a": 1})
    assert "\n" not in str(error.value)


def test_a_run_whose_folder_is_removed_ends_and_makes_no_half_of_it_again(tmp_path):
    run = Run(tmp_path / "run", {"a": 1})
    run.record(step=0, loss=1.0)
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    (tmp_path / "run").rmdir()
    writes = (lambda: run.record(step=1, loss=1.0), lambda: run.file("dit.safetensors"), lambda: run.sample_file(1))
    for write in writes:
        with pytest.raises(ValueError, match="was removed or replaced while this run was going on"):
            write()
    assert not (tmp_path / "run").exists()


def test_a_kill_between_the_captioners_checkpoint_and_its_report_loses_nothing(tmp_path):
    vae, out = vae_of(0), tmp_path / "run"
    cache = toy(tmp_path / "cache", vae, 3)
    captioner_run(out, cache, vae)
    whole = (out / "captioner.safetensors").read_bytes()
    (out / "captioner.safetensors").write_bytes(b"of a step before")
    (out / "samples" / "000002.png").unlink()
    (out / f".captioner.safetensors.{2**22 + 1}-0.partial").write_bytes(b"half")
    captioner_run(out, cache, vae)
    assert (out / "captioner.safetensors").read_bytes() == whole
    assert (out / "samples" / "000002.png").is_file()
    assert not list(out.rglob("*.partial"))
