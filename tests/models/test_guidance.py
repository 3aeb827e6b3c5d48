"""Guidance: agreement with diffusers' guiders, the invariants of each formula, and how often the model is asked."""

import pytest
import torch

from comfyui_spacetime.models import guidance
from comfyui_spacetime.models.guidance import APG, Guidance
from comfyui_spacetime.models.schedules import sigma_of


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 4, 3, 5, 5, generator=generator) for _ in range(3))


def test_scale_one_is_the_conditional_prediction(predictions):
    cond, uncond, x = predictions
    for guided in (
        guidance.cfg(cond, uncond, 1.0),
        guidance.cfg_rescale(cond, uncond, 1.0),
        guidance.apg(cond, uncond, 1.0, APG())[0],
        guidance.cfg_zero_star(cond, uncond, x, 1.0),
    ):
        torch.testing.assert_close(guided, cond)


def test_cfg_rescale_equals_diffusers(predictions):
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    cond, uncond, _ = predictions
    plain = guidance.cfg(cond, uncond, 5.0)
    torch.testing.assert_close(guidance.cfg_rescale(cond, uncond, 5.0, 0.7), rescale_noise_cfg(plain, cond, 0.7))
    assert torch.equal(guidance.cfg_rescale(cond, uncond, 5.0, 0.0), plain)
    full = guidance.cfg_rescale(cond, uncond, 5.0, 1.0)
    torch.testing.assert_close(full.flatten(1).std(dim=1), cond.flatten(1).std(dim=1))


@pytest.mark.parametrize("settings", [APG(), APG(eta=0.5, limit=3.0), APG(eta=1.0, limit=2.0, momentum=-0.5)])
def test_apg_equals_diffusers_over_several_steps(predictions, settings):
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    cond, uncond, _ = predictions
    buffer, running = MomentumBuffer(settings.momentum), None
    for step in range(3):
        reference = normalized_guidance(
            cond + step, uncond, 4.0 - 1, buffer, settings.eta, settings.limit, use_original_formulation=True
        )
        ours, running = guidance.apg(cond + step, uncond, 4.0, settings, running)
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)


def test_apg_that_keeps_everything_is_cfg(predictions):
    cond, uncond, _ = predictions
    torch.testing.assert_close(
        guidance.apg(cond, uncond, 6.0, APG(eta=1.0))[0], guidance.cfg(cond, uncond, 6.0), rtol=1e-4, atol=1e-5
    )


def test_apg_does_not_push_along_the_prediction(predictions):
    cond, uncond, _ = predictions
    push = guidance.apg(cond, uncond, 6.0, APG())[0] - cond
    assert (push * cond).flatten(1).sum(1).abs().max() < 1e-3


def test_cfg_zero_star_equals_diffusers_on_velocities(predictions):
    from diffusers.guiders import ClassifierFreeZeroStarGuidance

    cond, uncond, x = predictions
    sigma = 0.6
    guider = ClassifierFreeZeroStarGuidance(guidance_scale=5.0, zero_init_steps=1)
    guider.set_state(step=3, num_inference_steps=10, timestep=torch.tensor(600))
    velocity = guider.forward((x - cond) / sigma, (x - uncond) / sigma).pred
    torch.testing.assert_close(guidance.cfg_zero_star(cond, uncond, x, 5.0), x - sigma * velocity)


def test_cfg_zero_star_ignores_the_length_of_the_unconditional_velocity(predictions):
    cond, uncond, x = predictions
    once = guidance.cfg_zero_star(cond, uncond, x, 5.0)
    longer = guidance.cfg_zero_star(cond, x - 3 * (x - uncond), x, 5.0)
    torch.testing.assert_close(once, longer, rtol=1e-4, atol=1e-5)


def test_zero_init_covers_the_first_steps_only():
    sigmas = torch.tensor([1.0, 0.8, 0.5, 0.0])
    assert [guidance.zero_init(float(s), sigmas, 2) for s in sigmas[:-1]] == [True, True, False]
    assert not guidance.zero_init(1.0, sigmas, 0)


def test_clips_of_a_batch_do_not_see_each_other(predictions):
    cond, uncond, x = predictions
    for combine in (
        lambda c, u, _: guidance.cfg_rescale(c, u, 5.0),
        lambda c, u, _: guidance.apg(c, u, 5.0, APG(limit=2.0))[0],
        lambda c, u, s: guidance.cfg_zero_star(c, u, s, 5.0),
    ):
        alone = torch.cat([combine(cond[i : i + 1], uncond[i : i + 1], x[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(combine(cond, uncond, x), alone)


def test_outside_the_interval_the_unconditional_model_is_not_called(predictions):
    asked = []

    def cond(x, sigma):
        return x * 2

    def uncond(x, sigma):
        asked.append(float(sigma[0]))
        return x

    settings = Guidance(scale=3.0, unit="sigma", start=0.8, end=0.2)
    denoise = settings.denoiser(cond, uncond, float)
    x = predictions[0]
    for sigma in (1.0, 0.8, 0.5, 0.2, 0.1):
        result = denoise(x, torch.full((2,), sigma))
        torch.testing.assert_close(result, x * (4 if 0.2 < sigma <= 0.8 else 2))
    assert asked == pytest.approx([0.8, 0.5])


def test_half_precision_comes_back_as_half_precision(predictions):
    cond, uncond, x = (tensor.bfloat16() for tensor in predictions)
    assert guidance.cfg(cond, uncond, 3.0).dtype == torch.bfloat16
    assert guidance.cfg_zero_star(cond, uncond, x, 3.0).dtype == torch.bfloat16


# --- the settings of a guider ---


def test_each_mode_combines_with_its_own_formula(predictions):
    cond, uncond, x = predictions
    expected = {
        "cfg": guidance.cfg(cond, uncond, 4.0),
        "rescale": guidance.cfg_rescale(cond, uncond, 4.0, 0.7),
        "apg": guidance.apg(cond, uncond, 4.0, APG())[0],
        "cfg_zero_star": guidance.cfg_zero_star(cond, uncond, x, 4.0),
    }
    assert set(expected) == set(guidance.MODES)
    for mode, wanted in expected.items():
        assert torch.equal(Guidance(mode=mode, scale=4.0).combine(cond, uncond, x), wanted)


def test_an_interval_in_percent_becomes_sigmas():
    settings = Guidance(start=0.25, end=0.75)
    assert settings.bounds(lambda percent: 1 - percent) == (0.75, 0.25)
    assert Guidance(unit="sigma", start=0.9, end=0.3).bounds(abs) == (0.9, 0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "magic"}, "unknown guidance 'magic'.*cfg, rescale"),
        ({"unit": "steps"}, "unknown unit.*'steps'"),
        ({"start": 0.8, "end": 0.2}, "rising percentages"),
        ({"unit": "sigma", "start": 0.2, "end": 0.8}, "falling sigmas"),
        ({"start": -0.1}, "within 0 to 1"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**settings)


def test_a_denoiser_leads_away_from_hidden_history_after_the_guidance_by_text():
    cond, uncond, hidden = (torch.randn(2, 3, 2, 2, 2) for _ in range(3))
    given = guidance.Guidance(scale=3.0).denoiser(
        *(lambda _x, _sigma, value=value: value for value in (cond, uncond)),
        sigma_of(1.0),
        without=lambda _x, _sigma: hidden,
        history=0.5,
    )
    expected = guidance.cfg(cond, uncond, 3.0) + 0.5 * (cond - hidden)
    torch.testing.assert_close(given(cond, torch.tensor([0.5, 0.5])), expected)
