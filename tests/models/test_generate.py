"""The whole path from prompt to clip: sizes, seeds, known frames, loops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from comfyui_spacetime.models import generate as generating
from comfyui_spacetime.models.flow import PREDICTIONS, convert
from comfyui_spacetime.models.generate import Models, generate, mixed_predictor, predictor, tiled_predictor
from comfyui_spacetime.models.geometry import OURS
from comfyui_spacetime.models.guidance import Guidance
from comfyui_spacetime.models.pixels import from_uint8
from comfyui_spacetime.models.solvers import Solver, sample
from comfyui_spacetime.models.tasks.along_time import extend
from comfyui_spacetime.models.tasks.canvas import Canvas
from comfyui_spacetime.models.tasks.second_pass import enlarge, sigmas_from, tiling_of
from comfyui_spacetime.models.tasks.tiles import Tiling
from comfyui_spacetime.models.text.encoder import TextEncoder
from comfyui_spacetime.models.text.tokenizer import WordPieceTokenizer
from comfyui_spacetime.models.training.dit import samples
from comfyui_spacetime.models.training.dit import train as training
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAE_PRESETS
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "ball", "cube", "rolls"]
SMALL = {"height": 32, "width": 32, "num_frames": 5, "steps": 3}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    dit = DiT(PRESETS["test"])
    for weight in dit.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    text = TextEncoder(WordPieceTokenizer({word: i for i, word in enumerate(WORDS)}), num_layers=1)
    vae = VideoVAE(VAE_PRESETS["test"])
    torch.nn.init.normal_(vae.decoder.linear.weight, std=0.1)
    return Models(dit.eval(), vae.eval(), text)


def test_clips_have_the_size_that_was_asked_for(models):
    for frames, cyclic in ((1, False), (9, False), (8, True)):
        clips = generate(models, ["a red ball"], num_frames=frames, height=32, width=48, steps=2, cyclic=cyclic)
        assert [clip.shape for clip in clips] == [(frames, 32, 48, 3)]
        assert clips[0].dtype == np.uint8


def test_a_clip_depends_on_its_own_seed_and_prompt_alone(models):
    pair = generate(models, ["a red ball", "a blue cube rolls"], seed=7, **SMALL)
    alone = generate(models, ["a blue cube rolls"], seed=8, **SMALL)[0]
    assert np.abs(pair[1].astype(int) - alone).max() <= 1
    assert np.abs(pair[0].astype(int) - alone).max() > 1
    again = generate(models, ["a red ball", "a blue cube rolls"], seed=7, **SMALL)
    assert all(np.array_equal(a, b) for a, b in zip(pair, again, strict=True))


def test_guidance_of_one_ignores_the_negative_prompt(models):
    one, other = (generate(models, ["a red ball"], cfg=1.0, negative=text, **SMALL) for text in ("", "a blue cube"))
    assert np.array_equal(one[0], other[0])
    one, other = (generate(models, ["a red ball"], cfg=3.0, negative=text, **SMALL) for text in ("", "a blue cube"))
    assert not np.array_equal(one[0], other[0])


def test_an_interval_without_steps_is_no_guidance(models):
    plain = generate(models, ["a red ball"], cfg=1.0, **SMALL)[0]
    late = Guidance(scale=5.0, unit="sigma", start=0.01, end=0.0)
    assert np.array_equal(generate(models, ["a red ball"], cfg=late, **SMALL)[0], plain)


def test_known_frames_come_back_and_the_rest_is_new(models):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    clip = models.vae.encode(from_uint8(frames)[None])
    canvas = extend(clip, after=2)
    result = generate(models, ["a red ball"], steps=3, known=canvas)[0]
    whole = models.vae.decode(clip)[0]
    assert result.shape[0] == 13
    assert (from_uint8(result[:5]) - whole.detach().clamp(-1, 1)).abs().max() < 0.01


def test_a_known_place_is_seen_clean_and_the_same_per_frame_as_per_patch(models):
    latents = torch.randn(1, 16, 3, 4, 4)
    x, sigma = torch.randn(1, 16, 3, 4, 4), torch.tensor([0.7])
    canvas = extend(latents[:, :, :1], after=2)
    expected = predictor(models, ["a red ball"], (3, 4, 4), known=canvas)(x, sigma)
    assert torch.equal(expected[:, :, 0], latents[:, :, 0])
    seen = torch.cat([latents[:, :, :1], x[:, :, 1:]], dim=2)
    context, mask = models.text(["a red ball"])
    levels = torch.tensor([0.0] * 4 + [0.7] * 8)[None]
    velocity = models.dit(seen, levels, context, mask)
    assert torch.allclose(expected[:, :, 1:], (seen - 0.7 * velocity)[:, :, 1:], atol=1e-5)


def test_impossible_sizes_are_explained():
    with pytest.raises(ValueError, match="1 \\+ 4k"):
        OURS.latent_shape(32, 96, 96)
    with pytest.raises(ValueError, match="a loop has 4k"):
        OURS.latent_shape(33, 96, 96, cyclic=True)
    with pytest.raises(ValueError, match="multiples of 16"):
        OURS.latent_shape(33, 90, 96)


def test_one_string_is_not_a_list_of_prompts(models):
    with pytest.raises(ValueError, match="list of prompts"):
        generate(models, "a red ball")


class Oracle(DiT):
    """Knows the clip and says so in the unit of its config."""

    clip = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def forward(self, x, sigma, *_args, **_options):
        return convert(self.clip.expand_as(x), x, sigma, "x0", self.config.prediction)


class Watched:
    """A VAE that keeps what it decodes."""

    def __init__(self):
        self.seen = []
        self.decoder = SimpleNamespace(linear=SimpleNamespace(weight=torch.zeros(1)))

    def decode(self, latents, **_options):
        self.seen.append(latents[0])
        return torch.zeros(1, 3, 9, 8, 8)


@pytest.mark.parametrize("unit", PREDICTIONS)
def test_a_model_that_knows_the_clip_makes_it_whatever_it_predicts(models, unit):
    dit, vae = Oracle(replace(PRESETS["test"], prediction=unit)), Watched()
    generate(Models(dit, vae, models.text), ["a red ball"], num_frames=9, height=32, width=32, steps=4)
    empty = models.text([""])[0][0]
    strip = samples.sample(dit, [empty], empty, (16, 3, 4, 4), steps=4)
    for made in (vae.seen[0], strip[0]):
        assert torch.allclose(made, dit.clip, atol=1e-4)


@pytest.mark.parametrize("unit", PREDICTIONS)
def test_a_strip_of_a_run_shows_what_generate_makes(models, unit, monkeypatch):
    dit, vae = DiT(replace(PRESETS["test"], prediction=unit)).eval(), Watched()
    dit.load_state_dict(models.dit.state_dict())
    context, mask = models.text(["a red ball", "a blue cube rolls"])
    texts, empty = [row[real] for row, real in zip(context, mask, strict=True)], models.text([""])[0][0]
    strip = samples.sample(dit, texts, empty, (16, 3, 4, 4), steps=3, cfg=3.0, shift=1.5)
    noise = torch.randn(2, 16, 3, 4, 4, generator=training.generator(0, 0))
    monkeypatch.setattr(generating, "clip_noise", lambda _models, _shape, seed: noise[seed])
    options = {"num_frames": 9, "height": 32, "width": 32, "steps": 3, "cfg": 3.0, "shift": 1.5, "solver": "euler"}
    generate(Models(dit, vae, models.text), ["a red ball", "a blue cube rolls"], **options)
    close = 1e-2 if unit == "eps" else 1e-4  # it divides by 1 - sigma, 0.006 at first
    torch.testing.assert_close(strip, torch.stack(vae.seen), rtol=close, atol=close)


def test_a_second_pass_is_predicted_tile_by_tile(models):
    """A whole pass through the functions of the library; one tile over all is the plain prediction."""
    clip = Canvas.of(torch.randn(1, 16, 2, 4, 4, generator=torch.manual_seed(0)))
    large = enlarge(clip, 2.0).latents
    tiling, whole = tiling_of(clip, 1.0, 0.25), Tiling(size=(2, 8, 8), overlap=0.0)
    sigma = torch.tensor([0.5])
    with torch.no_grad():
        plain = predictor(models, ["a red ball"], large.shape[2:])(large, sigma)
        assert torch.equal(tiled_predictor(models, ["a red ball"], large.shape[2:], whole)(large, sigma), plain)
        tiled = tiled_predictor(models, ["a red ball"], large.shape[2:], tiling)
        alone = predictor(models, ["a red ball"], (2, 4, 4))
        corner = tiled(large, sigma)[..., :2, :2]
        assert torch.allclose(corner, alone(large[..., :4, :4], sigma)[..., :2, :2], atol=1e-5)
        levels = sigmas_from(torch.linspace(1, 0, 9), 0.5)
        made = sample(Solver(name="euler"), tiled, large, levels)
    assert made.shape == large.shape
    assert not torch.equal(made, large)


def test_where_answers_are_mixed_each_place_takes_that_of_its_own_prompt(models):
    shape, x, sigma = (3, 4, 4), torch.randn(1, 16, 3, 4, 4, generator=torch.manual_seed(0)), torch.tensor([0.6])
    late = torch.zeros(shape)
    late[2], late[1] = 1.0, 0.25
    with torch.no_grad():  # gradients take other kernels
        red, blue = (predictor(models, [text], shape)(x, sigma) for text in ("a red ball", "a ball"))
        made = mixed_predictor(models, {"a red ball": 1 - late, "a ball": late})(x, sigma)
        same = mixed_predictor(models, {"a red ball": 1 - late, "a red ball ": late})(x, sigma)
    assert torch.equal(made[:, :, 0], red[:, :, 0])
    assert torch.equal(made[:, :, 2], blue[:, :, 2])
    assert torch.allclose(made[:, :, 1], 0.75 * red[:, :, 1] + 0.25 * blue[:, :, 1], atol=1e-5)
    assert torch.allclose(same, red, atol=1e-5)
    assert (red - blue).abs().max() > 1e-3
