"""The perceptual distance: nothing for equal pictures, more for more blur, and what the published network says."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from comfyui_spacetime.models.clips.toy import toy_clip
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.metrics import perceptual
from comfyui_spacetime.models.metrics.perceptual import PerceptualDistance, load_perceptual

NETWORKS = perceptual.NETWORKS


def installed() -> bool:
    try:
        perceptual.weights_file("vgg")
    except ValueError:
        return False
    return True


needs_weights = pytest.mark.skipif(not installed(), reason="the package stlpips-pytorch is not installed")


def pictures(count: int = 3, side: int = 64) -> torch.Tensor:
    """Frames of the toy world, (N, 3, H, W) in [-1, 1]."""
    frames = [toy_clip(seed, ClipSize(side, side, 1))[0][0] for seed in range(count)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 127.5 - 1


def blurred(images: torch.Tensor, radius: float) -> torch.Tensor:
    rows = (((images + 1) * 127.5).round().to(torch.uint8)).permute(0, 2, 3, 1).numpy()
    soft = [np.asarray(Image.fromarray(row).filter(ImageFilter.GaussianBlur(radius))) for row in rows]
    return torch.from_numpy(np.stack(soft)).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture(scope="module", params=NETWORKS)
def distance(request) -> PerceptualDistance:
    if not installed():
        pytest.skip("the package stlpips-pytorch is not installed")
    return load_perceptual(request.param)


def test_equal_pictures_have_no_distance(distance):
    assert torch.equal(distance(pictures(), pictures()), torch.zeros(3))


def test_it_grows_with_blur_in_every_picture(distance):
    true = pictures()
    values = torch.stack([distance(blurred(true, radius), true) for radius in (0.5, 1, 2, 4)])
    assert (values.diff(dim=0) > 0).all()


def test_a_shift_by_one_pixel_counts_less_than_the_blur_that_errs_as_much(distance):
    true = pictures(side=96)
    shifted = true.roll(1, dims=3)
    error = (shifted - true).square().mean()
    radii = [i / 4 for i in range(2, 24)]
    radius = min(radii, key=lambda r: abs(float((blurred(true, r) - true).square().mean() - error)))
    assert (distance(shifted, true) < distance(blurred(true, radius), true)).all()


@pytest.mark.parametrize("network", NETWORKS)
@needs_weights
def test_it_says_what_the_packages_own_network_says(network, monkeypatch):
    pytest.importorskip("torchvision")
    for name, entry in (("IPython", "embed"), ("torchsummary", "summary")):  # imported by the package, never called
        if name not in sys.modules:
            stub = types.ModuleType(name)
            setattr(stub, entry, None)
            monkeypatch.setitem(sys.modules, name, stub)
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips")
    reference = stlpips.LPIPS(net=network, variant="shift_tolerant", verbose=False)
    true = pictures(side=72)
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    for other in (blurred(true, 2), (true + 0.2 * noise).clamp(-1, 1), true.flip(-1)):
        with torch.no_grad():
            expected = reference(other, true).flatten()
            found = load_perceptual(network)(other, true)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_pictures_and_nothing_else(distance):
    true = pictures()
    output = blurred(true, 2).requires_grad_()
    distance(output, true).mean().backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    assert output.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in distance.parameters())
    stepped = (output - 20 * output.grad).detach()
    assert distance(stepped, true).mean() < distance(output.detach(), true).mean()


def test_flat_pictures_give_no_nan(distance):
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    distance(flat, torch.full((1, 3, 32, 32), -1.0)).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_small_pictures_are_refused(distance):
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got 16 x 48: take a larger crop"):
        distance(torch.zeros(1, 3, 48, 16), torch.zeros(1, 3, 48, 16))


def test_missing_weights_are_one_sentence_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps stlpips-pytorch, or set the perceptual loss to 0"):
        load_perceptual()
    with pytest.raises(ValueError, match='"squeeze" is no network'):
        load_perceptual("squeeze")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    monkeypatch.setattr(perceptual, "weights_file", lambda _: broken)
    with pytest.raises(ValueError, match="does not hold its weights"):
        load_perceptual()


def test_files_with_code_in_them_are_not_run(monkeypatch, tmp_path):
    trap, mark = tmp_path / "trap.pth", tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (mark,))

    torch.save({"net.slice1.0.bias": Trap()}, trap)
    monkeypatch.setattr(perceptual, "weights_file", lambda _: trap)
    with pytest.raises(ValueError, match="does not hold its weights"):
        load_perceptual()
    assert not mark.exists()
