"""The networks in half precision, with numbers far from those that they were made for: never nan."""

import pytest
import torch

from comfyui_spacetime.models.patches import Grid
from comfyui_spacetime.models.transformer.attention import matmul_attention, sdpa
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def model() -> DiT:
    torch.manual_seed(0)
    dit = DiT(PRESETS["test"]).initialise()
    for parameter in dit.parameters():  # wake what starts at zero
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.1)
    return dit.eval().requires_grad_(False)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [0.0, 1e-7, 1.0, 1e3])
def test_a_dit_stays_finite_and_near_to_fp32(model, dtype, size):
    rng = torch.Generator().manual_seed(0)
    x = size * torch.randn(2, 16, 2, 4, 4, generator=rng)
    context = min(size, 100.0) * torch.randn(2, 5, 384, generator=rng)
    seen = torch.tensor([[True] * 5, [False] * 5])  # and a text of which nothing counts
    sigma = torch.tensor([[0.0, 1e-6], [0.5, 1.0]])
    grid = [Grid.of(x)]
    half = DiT(PRESETS["test"]).to(dtype).eval()
    half.load_state_dict(model.state_dict())
    for kernel in (sdpa, matmul_attention):
        expected = model(x, sigma, prepared=model.prepare(grid, context, seen), attention=kernel)
        with torch.no_grad():
            prepared = half.prepare(grid, context.to(dtype), seen)
            found = half(x.to(dtype), sigma, prepared=prepared, attention=kernel)
        assert found.dtype == dtype
        assert torch.isfinite(found).all()
        assert (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [0.0, 1e-7, 1e3])
def test_a_vae_stays_finite(dtype, size):
    torch.manual_seed(0)
    vae = VideoVAE(VAES["test"]).to(dtype).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    video = (size * torch.randn(1, 3, 5, 16, 16, generator=rng)).clamp(-1, 1)
    assert torch.isfinite(vae.encode(video.to(dtype))).all()
    latents = (size * torch.randn(1, 16, 2, 2, 2, generator=rng)).to(dtype)
    assert torch.isfinite(vae.decode(latents)).all()
