"""Low-rank adapters: trained alone, saved, merged; and classes: learned, dropped, named in the checkpoint."""

import json

import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint, joined, load_checkpoint, save_checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.toy import cache_toy_world, toy_example
from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.training.dit import samples
from comfyui_spacetime.models.training.dit import train as training
from comfyui_spacetime.models.training.dit.batches import draw_batch
from comfyui_spacetime.models.training.dit.initial import build, class_names
from comfyui_spacetime.models.training.dit.lora import merge, read_lora
from comfyui_spacetime.models.training.dit.profiles import reconstruct
from comfyui_spacetime.models.training.run.folder import generator
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

from .test_training_batches import EMPTY, cache, settings, step  # noqa: F401 - a fixture

FIXED = {"steps": 8, "save_every": 8, "warmup": 2, "early": 0.0, "snapshots": 2, "learning_rate": 1e-2}


def start(seed: int = 0) -> Checkpoint:
    """A model that a LoRA can be trained on."""
    torch.manual_seed(seed)
    model = DiT(PRESETS["test"]).initialise()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Checkpoint(model.config, model.state_dict())


def train(cache, out, init, **changes):  # noqa: F811
    torch.manual_seed(0)
    vae = VideoVAE(VAES["test"])  # that of the cache
    return training.train(settings(**(FIXED | changes)), cache, cache, torch.zeros(2, 384), vae, out, init)


# -- LoRA --------------------------------------------------------------------------------------------------------------


def test_a_lora_run_trains_nothing_but_the_adapters(cache, tmp_path):  # noqa: F811
    init = start()
    result = train(cache, tmp_path, init, lora=3).state_dict()
    tensors, header = read_tensors(tmp_path / "lora.safetensors")
    layers = {name.removeprefix("diffusion_model.").partition(".lora")[0] for name in tensors if ".lora" in name}
    assert layers == {
        f"blocks.{i}.{layer}"
        for i in range(2)
        for layer in (
            "self_attn.qkv",
            "self_attn.proj",
            "cross_attn.q",
            "cross_attn.kv",
            "cross_attn.proj",
            "mlp.gate_up",
            "mlp.down",
        )
    }
    assert json.loads(header["spacetime_lora"]) == {"steps": 8}
    assert tensors["diffusion_model.blocks.0.self_attn.qkv.lora_down.weight"].shape == (3, 32)
    changed = {name for name, weight in result.items() if not torch.equal(weight, init.dit_state[name])}
    assert changed == {f"{layer}.weight" for layer in layers}
    checkpoint = read_tensors(tmp_path / "checkpoint.safetensors")[0]
    assert all("lora" in name for name in checkpoint)


def test_merging_gives_the_runs_own_result(cache, tmp_path):  # noqa: F811
    init = start()
    result = train(cache, tmp_path, init, lora=2, lora_layers="mlp").state_dict()
    made = merge(init, tmp_path / "lora.safetensors")
    assert all(torch.allclose(made.dit_state[name], weight, atol=1e-6) for name, weight in result.items())
    half = merge(init, tmp_path / "lora.safetensors", 0.5).dit_state["blocks.0.mlp.down.weight"]
    middle = (result["blocks.0.mlp.down.weight"] + init.dit_state["blocks.0.mlp.down.weight"]) / 2
    assert torch.allclose(half, middle, atol=1e-6)
    assert set(read_lora(tmp_path / "lora.safetensors")) == {
        f"blocks.{i}.mlp.{part}" for i in range(2) for part in ("down", "gate_up")
    }


def test_a_fresh_adapter_changes_nothing_and_learns(cache):  # noqa: F811
    init = start()
    batch = draw_batch(cache, EMPTY, settings(), generator(0, 2))
    plain, adapted = build(settings(), init), build(settings(lora=2), init)
    assert step(plain, batch)[0] == pytest.approx(step(adapted, batch)[0], rel=1e-6)
    found = step(adapted, batch)[1]
    assert all("lora_" in name for name in found)
    assert found["blocks.1.mlp.down.lora_up"].abs().sum() > 0


def test_averages_of_a_lora_are_loras(cache, tmp_path):  # noqa: F811
    train(cache, tmp_path, start(), lora=2)
    made, error = reconstruct(tmp_path, 0.0999)
    assert made.dit_config is None
    assert error < 0.1
    assert all("lora_" in name for name in made.dit_state)


@pytest.mark.parametrize(
    ("changes", "init", "says"),
    [
        ({"lora": 2}, None, "name that model's checkpoint with --init"),
        ({"lora": 2, "lora_layers": "nothing"}, start(), "no linear layer is called like"),
        ({"lora": 2, "lora_layers": "("}, start(), "is no regular expression"),
        ({"lora": 99}, start(), "lower --lora"),
        ({"lora": 2, "classes": ("a",)}, start(), "leave out --classes, or --lora"),
        ({"text": False}, start(), "leave out --no-text, or --init"),
        ({}, Checkpoint(), "holds no DiT"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(changes, init, says):
    with pytest.raises(ValueError, match=says):
        build(settings(**changes), init)


def test_a_lora_of_another_model_is_refused(cache, tmp_path):  # noqa: F811
    train(cache, tmp_path, start(), lora=2)
    torch.manual_seed(0)
    other = DiT(PRESETS["toy"])
    with pytest.raises(ValueError, match="was trained on another model"):
        merge(Checkpoint(other.config, other.state_dict()), tmp_path / "lora.safetensors")
    save_checkpoint(tmp_path / "model.safetensors", start())
    with pytest.raises(ValueError, match="is no LoRA of ours"):
        merge(start(), tmp_path / "model.safetensors")


# -- classes -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> LatentCache:
    """Toy-world clips: what happens in them is their class."""
    folder = tmp_path_factory.mktemp("labelled")

    def encoder(texts):
        return torch.randn(len(texts), 5, 384), torch.ones(len(texts), 5, dtype=torch.bool)

    torch.manual_seed(0)
    cache_toy_world(folder, VideoVAE(VAES["test"]), encoder, ClipSize(32, 32, 9), 12)
    return LatentCache(folder)


def test_a_cache_knows_the_class_of_every_clip(labelled):
    expected = [toy_example(seed, ClipSize(32, 32, 9)).kind for seed in range(12)]
    assert labelled.classes["32x32x9"] == expected
    assert labelled.class_names == tuple(sorted(set(expected)))
    drawn = labelled.draw("32x32x9", 30, generator(0, 0))
    by_latents = {
        tuple(z.flatten().tolist()): name for (z, _), name in zip(labelled.buckets["32x32x9"], expected, strict=True)
    }
    assert all(example.label == by_latents[tuple(example.latents.flatten().tolist())] for example in drawn)


@pytest.mark.parametrize("packing", [True, False])
def test_classes_are_dropped_with_the_text_at_the_rate_asked_for(labelled, packing):
    names = labelled.class_names
    chosen = settings(classes=names, dropout=0.4, tokens=240, packing=packing)
    labels = torch.cat([draw_batch(labelled, EMPTY, chosen, generator(0, i)).labels for i in range(60)])
    assert 0.3 < (labels == len(names)).float().mean() < 0.5
    assert set(labels.tolist()) == set(range(len(names) + 1))


def test_a_packed_clip_has_its_own_class(labelled):
    names = labelled.class_names
    model = build(settings(classes=names), None)
    torch.nn.init.normal_(model.label_embedder)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = draw_batch(labelled, EMPTY, settings(classes=names, packing=True), generator(0, 1))
    assert len(set(batch.labels.tolist())) > 1
    loss, found = step(model, batch)
    single, expected = step(model, batch, parts=batch.count)
    assert loss == pytest.approx(single, rel=1e-5)
    assert torch.allclose(found["label_embedder"], expected["label_embedder"], atol=1e-6)
    used = found["label_embedder"].abs().sum(dim=1) > 0
    assert used.nonzero().flatten().tolist() == sorted(set(batch.labels.tolist()))


@pytest.mark.parametrize("text", [True, False])
def test_classes_end_in_the_checkpoint_and_steer_samples(labelled, tmp_path, text):
    names = labelled.class_names
    model = train(labelled, tmp_path, None, classes=names, text=text, steps=30, save_every=30)
    stored = load_checkpoint(tmp_path / "dit.safetensors")
    assert stored.class_names == names
    assert stored.dit_config.num_classes == len(names)
    assert bool(stored.dit_config.context_dim) is text
    assert joined(stored, Checkpoint()).class_names == names
    torch.nn.init.normal_(model.label_embedder)
    common = {"texts": [EMPTY] * 2, "empty": EMPTY, "shape": (16, 3, 4, 4), "steps": 2}
    one, other = samples.sample(model, labels=torch.tensor([0, 1]), **common)
    again, _ = samples.sample(model, labels=torch.tensor([0, 0]), **common)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_classes_can_be_added_to_a_model_and_then_only_continued(labelled, tmp_path):
    names = labelled.class_names
    init = start()
    grown = build(settings(classes=names), init)
    batch = draw_batch(labelled, EMPTY, settings(classes=names), generator(0, 1))
    assert step(grown, batch)[0] == pytest.approx(step(build(settings(), init), batch)[0], rel=1e-6)
    train(labelled, tmp_path, init, classes=names)
    known = load_checkpoint(tmp_path / "dit.safetensors")
    assert class_names(True, names[:1], known) == names  # the model's own numbers
    with pytest.raises(ValueError, match="does not know the class"):
        class_names(True, ("another",), known)
    with pytest.raises(ValueError, match="knows the classes"):
        build(settings(classes=("another",)), known)


def test_clips_without_classes_are_refused(cache):  # noqa: F811
    with pytest.raises(ValueError, match="one sub-folder per class"):
        class_names(True, cache.class_names, None)
    assert class_names(False, ("a",), None) == ()
