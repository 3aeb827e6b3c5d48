"""PSNR and SSIM against the formulas written out plainly."""

import math

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.metrics.reference import psnr, ssim
from comfyui_spacetime.models.metrics.report import Measure, Report


def plain_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13, window by window, for one channel in 0..1."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 0.01**2, 0.03**2
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return float(np.mean(values))


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.manual_seed(0)
    reference = torch.rand(2, 20, 17, 3, generator=generator)
    return (reference + 0.1 * torch.randn(2, 20, 17, 3, generator=generator)).clamp(0, 1), reference


def test_ssim_equals_the_formula(pair):
    images, reference = pair
    for frame, value in enumerate(ssim(images, reference)):
        plain = np.mean(
            [
                plain_ssim(images[frame, ..., c].double().numpy(), reference[frame, ..., c].double().numpy())
                for c in range(3)
            ]
        )
        assert float(value) == pytest.approx(plain, abs=1e-6)


def test_psnr_of_a_known_error(pair):
    reference = torch.full((1, 16, 16, 3), 0.5)
    assert float(psnr(reference + 0.1, reference)) == pytest.approx(20.0, abs=1e-3)
    assert math.isinf(float(psnr(reference, reference)))
    images, other = pair
    expected = [-10 * math.log10(float(((a - b).double() ** 2).mean())) for a, b in zip(images, other, strict=True)]
    assert psnr(images, other).tolist() == pytest.approx(expected, rel=1e-5)


def test_both_are_symmetric_and_best_for_equal_videos(pair):
    images, reference = pair
    torch.testing.assert_close(ssim(images, reference), ssim(reference, images))
    torch.testing.assert_close(psnr(images, reference), psnr(reference, images))
    torch.testing.assert_close(ssim(images, images), torch.ones(2))


def test_videos_that_cannot_be_compared_are_refused(pair):
    images, reference = pair
    with pytest.raises(ValueError, match="same frames, size and colours"):
        psnr(images[:1], reference)
    with pytest.raises(ValueError, match="window of 11"):
        ssim(images[:, :8], reference[:, :8])


def test_a_report_survives_json_and_prints_units():
    report = Report("Loop", (Measure("PSNR", 31.25, "dB", (31.0, 31.5)), Measure("seam", 1.02)), ("one remark",))
    assert Report.from_json(report.to_json()) == report
    assert report.text() == "Loop\nPSNR 31.25 dB\nseam 1.02\none remark"
    assert report.value("seam") == 1.02
    with pytest.raises(ValueError, match="PSNR, seam"):
        report.value("drift")
