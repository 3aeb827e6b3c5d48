"""The sigma convention: round trips in float64, and agreement with published DDPM arithmetic."""

import itertools

import pytest
import torch

from comfyui_spacetime.models import flow
from comfyui_spacetime.models.patches import patchify

SHAPE = (2, 3, 4, 6, 8)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))


def level(kind):
    generator = torch.Generator().manual_seed(1)
    shape = {"number": (), "clip": (2,), "frame": (2, 4), "token": (2, 4 * 3 * 4), "mask": (2, 1, 4, 6, 8)}[kind]
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 0.98 + 0.01


@pytest.mark.parametrize("sigma_kind", ["number", "clip", "frame", "token", "mask"])
@pytest.mark.parametrize(("source", "wanted"), list(itertools.product(flow.PREDICTIONS, repeat=2)))
def test_every_prediction_type_converts_to_every_other_and_back(pair, source, wanted, sigma_kind):
    x0, noise = pair
    sigma = level(sigma_kind)
    x = flow.add_noise(x0, noise, sigma)
    prediction = flow.target(x0, noise, sigma, source)
    there = flow.convert(prediction, x, sigma, source, wanted)
    torch.testing.assert_close(there, flow.target(x0, noise, sigma, wanted), rtol=0, atol=1e-11)
    torch.testing.assert_close(flow.convert(there, x, sigma, wanted, source), prediction, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prediction", flow.PREDICTIONS)
def test_a_perfect_prediction_denoises_to_the_clean_video(pair, prediction):
    x0, noise = pair
    x = flow.add_noise(x0, noise, 0.7)
    value = flow.target(x0, noise, 0.7, prediction)
    torch.testing.assert_close(flow.to_denoised(value, x, 0.7, prediction), x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(flow.convert(value, x, 0.7, prediction, "velocity"), noise - x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(flow.convert(x0, x, 0.7, "x0", prediction), value, rtol=0, atol=1e-12)


def test_the_ends_of_the_line_are_noise_and_clean(pair):
    x0, noise = pair
    assert torch.equal(flow.add_noise(x0, noise, 0.0), x0)
    assert torch.equal(flow.add_noise(x0, noise, 1.0), noise)


@pytest.mark.parametrize("prediction", ["velocity", "v", "x0"])
def test_predictions_stay_finite_at_both_ends(pair, prediction):
    x0, noise = pair
    sigma = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x = flow.add_noise(x0, noise, sigma)
    value = flow.target(x0, noise, sigma, prediction)
    torch.testing.assert_close(flow.to_denoised(value, x, sigma, prediction), x0)
    assert flow.convert(value, x, sigma, prediction, "velocity").isfinite().all()


def test_a_kept_patch_does_not_move(pair):
    x0, _ = pair
    assert flow.convert(x0, x0, 0.0, "x0", "velocity").abs().max() == 0


def test_eps_at_pure_noise_is_refused_with_a_remedy(pair):
    with pytest.raises(ValueError, match=r"sigma 1.*0\.9937"):
        flow.to_denoised(pair[1], pair[1], 1.0, "eps")


def test_an_unknown_prediction_type_is_named(pair):
    with pytest.raises(ValueError, match=r"'score'.*velocity, eps, v, x0"):
        flow.convert(pair[0], pair[0], 0.5, "score", "x0")


def test_levels_per_token_follow_the_order_of_the_tokens(pair):
    x0, noise = pair
    sigma = level("token")
    as_tokens = flow.add_noise(patchify(x0).values, patchify(noise).values, sigma)
    assert torch.equal(patchify(flow.add_noise(x0, noise, sigma)).values, as_tokens)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 4, 2)])
def test_levels_that_do_not_fit_are_refused(pair, shape):
    with pytest.raises(ValueError, match="noise levels"):
        flow.add_noise(*pair, torch.zeros(shape))


def test_half_precision_is_computed_in_float32(pair):
    x0, noise = (tensor.bfloat16() for tensor in pair)
    exact = flow.add_noise(x0.float(), noise.float(), 0.3)
    half = flow.add_noise(x0, noise, 0.3)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, exact.bfloat16())


# --- variance-preserving models ---


def test_ddpm_levels_equal_diffusers():
    from diffusers import DDPMScheduler

    for scaled, start, end in ((False, 1e-4, 0.02), (True, 0.00085, 0.012)):
        kind = "scaled_linear" if scaled else "linear"
        reference = DDPMScheduler(1000, beta_start=start, beta_end=end, beta_schedule=kind).alphas_cumprod
        ours = flow.ddpm_alphas_cumprod(1000, start, end, scaled=scaled)
        torch.testing.assert_close(ours.float(), reference, rtol=2e-4, atol=1e-7)


def test_vp_and_flow_are_the_same_line_at_another_length(pair):
    x0, noise = pair
    alphas = flow.ddpm_alphas_cumprod()
    for step in (0, 300, 999):
        sigma = flow.vp_to_flow_sigma(alphas[step])
        x_vp = alphas[step].sqrt() * x0 + (1 - alphas[step]).sqrt() * noise
        x = flow.add_noise(x0, noise, sigma)
        torch.testing.assert_close(flow.flow_to_vp(x, sigma), x_vp, rtol=0, atol=1e-12)
        v = alphas[step].sqrt() * noise - (1 - alphas[step]).sqrt() * x0
        torch.testing.assert_close(flow.to_denoised(v, x, sigma, "v"), x0, rtol=0, atol=1e-12)


def test_steps_survive_a_round_trip():
    alphas = flow.ddpm_alphas_cumprod()
    steps = flow.vp_timestep(flow.vp_to_flow_sigma(alphas), alphas)
    torch.testing.assert_close(steps, torch.arange(1000.0, dtype=torch.float64))


def test_timesteps_beyond_the_table_are_clamped():
    steps = flow.vp_timestep(torch.tensor([0.0, 1.0]), flow.ddpm_alphas_cumprod())
    assert steps.tolist() == [0, 999]


def test_the_variance_half_is_split_off():
    output = torch.randn(1, 8, 2, 2, 2)
    prediction, variance = flow.split_learned_variance(output, 4)
    assert torch.equal(torch.cat([prediction, variance], dim=1), output)
    assert flow.split_learned_variance(output, 8)[1] is None
    with pytest.raises(ValueError, match="8 channels; expected 5, or 10"):
        flow.split_learned_variance(output, 5)
