"""Schedules: their shape, and agreement with scipy, diffusers and the published formulas."""

import math

import numpy as np
import pytest
import torch

from comfyui_spacetime.models import schedules
from comfyui_spacetime.models.flow import ddpm_alphas_cumprod, vp_to_flow_sigma


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_a_schedule_falls_from_sigma_max_to_zero(name, steps, shift):
    for sigma_max in (1.0, 0.9):
        curve = schedules.sigmas(name, steps, shift=shift, sigma_max=sigma_max)
        assert curve.shape == (steps + 1,)
        assert curve.dtype == torch.float32
        assert curve[-1] == 0
        assert (curve.diff() < 0).all()
        if name != "ddpm":
            assert float(curve[0]) == pytest.approx(sigma_max, abs=1e-6)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_denoise_keeps_the_end_of_a_longer_run(name):
    part = schedules.sigmas(name, 10, shift=2.0, denoise=0.4)
    assert torch.equal(part, schedules.sigmas(name, 25, shift=2.0)[-11:])
    assert len(schedules.sigmas(name, 10, denoise=0.0)) == 0


def test_shift_keeps_the_ends_and_can_be_undone():
    curve = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = schedules.shift_sigmas(curve, 5.0)
    assert (shifted[0], shifted[-1]) == (0, 1)
    assert (shifted[1:-1] > curve[1:-1]).all()
    torch.testing.assert_close(schedules.shift_sigmas(shifted, 1 / 5.0), curve)


def test_shifted_linear_equals_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    for mu in (0.5, 1.15, 2.05):
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), mu=mu)
        torch.testing.assert_close(schedules.sigmas("linear", 20, shift=math.exp(mu)), scheduler.sigmas)


@pytest.mark.parametrize("name", ["karras", "exponential"])
def test_karras_and_exponential_equal_diffusers(name):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(**{f"use_{name}_sigmas": True})
    scheduler.set_timesteps(sigmas=np.linspace(1, 0.001, 12))
    torch.testing.assert_close(schedules.sigmas(name, 12), scheduler.sigmas, rtol=1e-5, atol=1e-6)


def test_beta_quantiles_equal_scipy():
    from scipy.stats import beta

    share = np.linspace(0, 1, 201)
    for a, b in ((0.6, 0.6), (0.5, 0.5), (1.0, 1.0), (2.0, 0.7)):
        ours = schedules.beta_quantile(torch.from_numpy(share), a, b).numpy()
        np.testing.assert_allclose(ours, beta.ppf(share, a, b), atol=1e-6)


def test_cosine_has_equal_steps_in_the_angle():
    curve = schedules.cosine(40)
    angle = torch.atan2(curve, 1 - curve)[:-3]  # the small offset of the paper bends the curve only near 0
    assert angle.diff().std() < 0.01 * angle.diff().abs().mean()


def test_linear_quadratic_is_linear_then_accelerates():
    curve = schedules.linear_quadratic(64, threshold=0.025)
    steps = -curve.diff()
    torch.testing.assert_close(steps[:32], torch.full((32,), 0.025 / 32, dtype=torch.float64))
    assert (steps[32:].diff() > 0).all()
    torch.testing.assert_close(steps[32:].diff().diff(), torch.zeros(30, dtype=torch.float64), rtol=0, atol=1e-12)


def test_ddpm_is_respaced_like_the_original_dit():
    table = vp_to_flow_sigma(ddpm_alphas_cumprod())
    curve = schedules.ddpm(250)
    # guided-diffusion's space_timesteps(1000, [250])
    stride = 999 / 249
    expected = [table[round(i * stride)] for i in reversed(range(250))]
    torch.testing.assert_close(curve[:-1], torch.stack(expected))
    assert float(curve[0]) == pytest.approx(0.99369, abs=1e-4)
    with pytest.raises(ValueError, match="1000 levels"):
        schedules.ddpm(1001)


def test_automatic_shifts_meet_their_published_anchors():
    assert schedules.auto_shift("flux", 256) == pytest.approx(math.exp(0.5))
    assert schedules.auto_shift("flux", 4096) == pytest.approx(math.exp(1.15))
    assert schedules.auto_shift("ltx", 1024) == pytest.approx(math.exp(0.95))
    assert schedules.auto_shift("ltx", 4096) == pytest.approx(math.exp(2.05))
    assert schedules.auto_shift("sqrt", 4096) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "quadratic", "steps": 4}, "unknown schedule 'quadratic'.*linear, cosine"),
        ({"schedule": "linear", "steps": 0}, "needs 1 to 10000 steps, not 0"),
        ({"schedule": "linear", "steps": 4, "shift": 0.0}, "shift 0.0"),
        ({"schedule": "linear", "steps": 4, "shift": float("nan")}, "shift nan"),
        ({"schedule": "linear", "steps": 4, "denoise": 1.5}, "denoise 1.5"),
        ({"schedule": "linear", "steps": 4, "sigma_max": 2.0}, "sigma_max 2.0"),
        ({"schedule": "linear_quadratic", "steps": 9000, "shift": 1000.0}, "two equal sigmas"),
    ],
)
def test_values_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.sigmas(**arguments)
