"""What the simulator knows of each patch, and a DiT that is trained to tell it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.checkpoints import load_checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.toy import cache_toy_world, toy_clip, toy_example
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.toyworld import COLOURS, SHAPES, render, sample_scene
from comfyui_spacetime.models.toyworld.truth import CHANNELS, truth_of
from comfyui_spacetime.models.training.dit import train as dit_training
from comfyui_spacetime.models.training.dit.alignment import add_aligner, alignment_loss, block_of
from comfyui_spacetime.models.training.dit.batches import draw_batch, first_frame
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.run.folder import generator
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAE_PRESETS
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

SIZE = ClipSize(32, 32, 9)
EMPTY = torch.zeros(2, 384)


def encoder(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(len(texts), 8, 384), torch.ones(len(texts), 8, dtype=torch.bool)


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(VAE_PRESETS["test"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory, vae) -> LatentCache:
    folder = tmp_path_factory.mktemp("clips")
    cache_toy_world(folder, vae, encoder, SIZE, 6, truth=True)
    return LatentCache(folder)


def settings(**changes: object) -> DiTTraining:
    plain = {
        "preset": "test",
        "tokens": 48,
        "steps": 2,
        "save_every": 2,
        "dtype": "float32",
        "snapshots": 0,
        "early": 0.0,
    }
    return DiTTraining(**(plain | {"alignment": 0.5} | changes))


# -- the truth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_masks_say_where_each_body_is_seen(seed):
    """Where one body covers a pixel whole, the frame does not change when the others are taken away."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, kind="still" if seed % 2 else None, num_frames=5)
    clip = render(scene, num_frames=5, height=48, width=64, masks=True)
    assert clip.masks is not None
    assert clip.masks.shape == (5, len(scene.bodies), 48, 64)
    assert clip.masks.astype(int).sum(axis=1).max() <= 255 + len(scene.bodies)  # rounded each
    plain = render(scene, num_frames=5, height=48, width=64)
    assert plain.masks is None
    assert np.array_equal(plain.frames, clip.frames)
    for k, body in enumerate(scene.bodies):
        whole = clip.masks[:, k] == 255
        if scene.kind == "still" and whole.any():
            alone = render(replace(scene, bodies=(body,)), num_frames=5, height=48, width=64)
            assert np.abs(alone.frames[whole].astype(int) - clip.frames[whole]).max() <= 1


@pytest.mark.parametrize("size", [ClipSize(64, 48, 9), ClipSize(48, 64, 8, cyclic=True), ClipSize(32, 32, 1)], ids=str)
def test_the_truth_tells_colours_and_shapes_of_the_bodies_and_nothing_else(size):
    rng = np.random.default_rng(3)
    scene = sample_scene(rng, cyclic=size.cyclic, num_frames=size.num_frames)
    clip = render(scene, num_frames=size.num_frames, height=size.height, width=size.width, masks=True)
    truth = truth_of(scene, clip).astype(float)
    frames = size.num_frames // 4 if size.cyclic else 1 + (size.num_frames - 1) // 4
    assert truth.shape == (frames, size.height // 16, size.width // 16, CHANNELS)
    colours = {name for name, seen in zip(COLOURS, truth[..., : len(COLOURS)].any(axis=(0, 1, 2)), strict=True) if seen}
    assert colours <= {body.colour for body in scene.objects}
    place = len(COLOURS) + 2
    shapes = {
        name for name, seen in zip(SHAPES, truth[..., place : place + 4].any(axis=(0, 1, 2)), strict=True) if seen
    }
    assert shapes <= {body.shape for body in scene.objects}
    covered = truth[..., : len(COLOURS) + 2].sum(-1)
    assert (covered <= 1.01).all()
    assert np.allclose(truth[..., -6:-3].sum(-1), np.clip(1 - covered, 0, 1), atol=2e-3)  # the floor shows elsewhere
    first_mask = clip.masks[0].sum(axis=0).reshape(size.height // 16, 16, size.width // 16, 16).mean(axis=(1, 3)) / 255
    if not size.cyclic:  # the first latent is the first frame alone
        assert np.allclose(covered[0], first_mask, atol=0.01)


def test_asking_for_the_truth_changes_neither_clip_nor_captions():
    made = toy_example(4, SIZE, truth=True)
    frames, captions = toy_clip(4, SIZE)
    assert np.array_equal(made.frames, frames)
    assert made.captions == captions


# -- alignment ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_zero_for_features_that_are_told_and_two_for_their_opposites():
    model = DiT(PRESETS["test"])
    add_aligner(model, 5)
    x = torch.randn(2, 7, 32)
    told = model.get_submodule("aligner")(x).detach()
    assert alignment_loss(model, x, 3 * told).item() == pytest.approx(0, abs=1e-5)
    assert alignment_loss(model, x, -told).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_features_stay_with_their_patches_in_batches_and_parts(cache, packing):
    batch = draw_batch(cache, EMPTY, settings(packing=packing, tokens=60), generator(0, 1))
    assert batch.known is not None
    assert batch.known.shape[:2] == batch.clean.shape[:2]
    parts = [part.known for part in batch.parts(2)]
    assert torch.equal(torch.cat(parts, dim=1 if packing else 0), batch.known)


def test_an_image_has_the_features_of_the_first_frame(cache):
    (example,) = cache.draw(str(SIZE), 1, generator(0, 0))
    assert first_frame(example).known.shape == (1, 2, 2, CHANNELS)


def test_an_aligned_run_learns_to_tell_and_its_checkpoint_is_a_plain_dit(cache, vae, tmp_path):
    wanted = settings(steps=60, tokens=48, save_every=60, learning_rate=5e-3, images=0.0, warmup=5)
    torch.manual_seed(0)
    fresh = DiT(PRESETS["test"]).initialise()
    add_aligner(fresh, cache.known_channels)
    batch = draw_batch(cache, EMPTY, wanted, generator(7, 0))

    @torch.no_grad()
    def told(model: DiT) -> float:
        taps = {block_of(model): batch.clean}
        noisy = torch.lerp(batch.clean, batch.noise, batch.levels()[..., None])
        prepared = model.prepare(batch.grids, batch.context.float(), batch.mask)
        model.forward_tokens(noisy, batch.sigma, prepared, taps=taps)
        return float(alignment_loss(model, taps[block_of(model)], batch.known))

    trained: list[DiT] = []
    build = dit_training.build

    def kept(*args: object) -> DiT:
        trained.append(build(*args))
        return trained[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dit_training, "build", kept)
        dit_training.train(wanted, cache, cache, EMPTY, vae, tmp_path)
    assert told(trained[0]) < 0.5 * told(fresh)
    made = load_checkpoint(tmp_path / "dit.safetensors")
    assert made.dit().state_dict().keys() == DiT(PRESETS["test"]).state_dict().keys()


def test_clips_without_features_are_refused_in_a_sentence(vae, tmp_path):
    cache_toy_world(tmp_path / "clips", vae, encoder, SIZE, 2)
    plain = LatentCache(tmp_path / "clips")
    with pytest.raises(ValueError, match="the clips of 32x32x9 hold no features to align with: build the cache anew"):
        dit_training.train(settings(), plain, plain, EMPTY, vae, tmp_path / "run")
    with pytest.raises(ValueError, match="leave out --alignment, or --lora"):
        settings(lora=2)
