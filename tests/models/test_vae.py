"""The video VAE: causal, equal in pieces, cyclic without a seam."""

import pytest
import torch

from comfyui_spacetime.models.training.vae.train import start_at_principal_components
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
from comfyui_spacetime.models.vae.layers import TimeCache, depth_to_space, space_to_depth


@pytest.fixture(scope="module")
def vae(awake) -> VideoVAE:
    torch.manual_seed(0)
    model = awake(VideoVAE(PRESETS["test"]), std=0.05)
    model.latent_mean.normal_()
    model.latent_std.uniform_(0.5, 2)
    return model


def pixels(frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (33, 9)])
def test_shapes(vae, frames, latents):
    z = vae.encode(pixels(frames))
    assert z.shape == (1, 16, latents, 4, 6)
    assert vae.decode(z).shape == (1, 3, frames, 32, 48)


def test_an_image_equals_the_first_frame_of_a_video(vae):
    video = pixels(17)
    assert torch.allclose(vae.encode(video)[:, :, :1], vae.encode(video[:, :, :1]), atol=1e-5)


def test_later_frames_change_no_earlier_latent(vae):
    video = pixels(17)
    changed = video.clone()
    changed[:, :, 9:] = 0
    assert torch.equal(vae.encode(video)[:, :, :3], vae.encode(changed)[:, :, :3])
    z = vae.encode(video)
    later = z.clone()
    later[:, :, 3:] = 0
    assert torch.equal(vae.decode(z)[:, :, :9], vae.decode(later)[:, :, :9])


@pytest.mark.parametrize("piece", [1, 3, 4, 7, 40])
def test_encoding_in_pieces_equals_encoding_at_once(vae, piece):
    video = pixels(41)
    pieces = torch.cat(list(vae.encode_stream(video.split(piece, dim=2))), dim=2)
    assert torch.allclose(pieces, vae.encode(video), atol=1e-5)


@pytest.mark.parametrize("piece", [1, 2, 5, 8])
def test_decoding_in_pieces_equals_decoding_at_once(vae, piece):
    z = torch.randn(1, 16, 21, 4, 4)
    whole = vae.decode(z)
    pieces = torch.cat(list(vae.decode_stream(z.split(piece, dim=2))), dim=2)
    assert torch.allclose(pieces, whole, atol=1e-5)


def test_piece_size_inside_does_not_matter(vae, monkeypatch):
    z = torch.randn(1, 16, 21, 4, 4)
    whole = vae.decode(z)
    monkeypatch.setattr("comfyui_spacetime.models.vae.autoencoder.PIECE", 100)
    assert torch.allclose(vae.decode(z), whole, atol=1e-5)


@pytest.fixture
def caches(monkeypatch) -> list[TimeCache]:
    """Every TimeCache that the VAE makes during the test."""
    made = []

    class Watched(TimeCache):
        def __init__(self, **settings):
            super().__init__(**settings)
            made.append(self)

    monkeypatch.setattr("comfyui_spacetime.models.vae.autoencoder.TimeCache", Watched)
    return made


@pytest.mark.parametrize("task", ["encode", "decode"])
def test_a_stream_of_any_length_remembers_the_same_amount(vae, caches, task):
    """Two frames per temporal layer, in storage of their own: a view would keep whole pieces alive."""
    work, piece = (
        (vae.encode_stream, pixels(32)) if task == "encode" else (vae.decode_stream, torch.randn(1, 16, 8, 4, 6))
    )
    sizes = set()
    for more in (1, 4):
        for _ in work([piece[:, :, :1], *[piece] * more]):
            pass
        tails = caches[-1].tails.values()
        assert all(tail.untyped_storage().nbytes() == 4 * tail.numel() for tail in tails)
        sizes.add(sum(tail.numel() for tail in tails))
    assert len(caches) == 2
    assert len(sizes) == 1
    assert sizes.pop() > 0


@pytest.mark.parametrize("shift", [1, 3, 7])
def test_a_rolled_loop_gives_rolled_latents_and_back(vae, shift):
    loop = pixels(32)
    z = vae.encode(loop, cyclic=True)
    assert z.shape[2] == 8
    assert torch.allclose(vae.encode(loop.roll(4 * shift, 2), cyclic=True), z.roll(shift, 2), atol=1e-5)
    decoded = vae.decode(z.roll(shift, 2), cyclic=True)
    assert torch.allclose(decoded, vae.decode(z, cyclic=True).roll(4 * shift, 2), atol=1e-5)


def test_ordinary_decoding_is_not_cyclic(vae):
    """The control of the test above: without the cyclic flag a roll changes the pixels."""
    z = torch.randn(1, 16, 8, 4, 4)
    assert not torch.allclose(vae.decode(z.roll(3, 2))[:, :, 12:], vae.decode(z).roll(12, 2)[:, :, 12:29], atol=1e-3)


@pytest.mark.parametrize("frames", [2, 4, 34])
def test_wrong_number_of_frames_names_the_remedy(vae, frames):
    with pytest.raises(ValueError, match=f"got {frames}: trim it to"):
        vae.encode(pixels(frames))


def test_wrong_sides_name_the_remedy(vae):
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(pixels(1, height=30))


def test_space_to_depth_round_trip():
    x = torch.randn(2, 4, 8, 8, 3)
    assert torch.equal(depth_to_space(space_to_depth(x, (2, 4, 4)), (2, 4, 4)), x)


def test_principal_components_are_the_best_linear_codec():
    """The linear start reconstructs low-rank data exactly, and its latents have unit variance."""
    torch.manual_seed(0)
    basis = torch.randn(10, 3 * 4 * 8 * 8)
    blocks = torch.randn(5 * 4 * 4, 10) @ basis * 0.1 + 0.2
    video = depth_to_space(blocks.view(1, 5, 4, 4, -1), (4, 8, 8))[0].permute(3, 0, 1, 2)  # (3, 20, 32, 32)
    model = VideoVAE(PRESETS["test"])
    start_at_principal_components(model, [torch.cat([video[:, :1], video], dim=1)], blocks=400)
    cells = space_to_depth(video.permute(1, 2, 3, 0)[None], (4, 8, 8))
    latents = model.encoder.linear(cells)
    assert torch.allclose(model.decoder.linear(latents), cells, atol=3e-2)
    assert latents.flatten(0, -2)[:, :5].std(dim=0).sub(1).abs().max() < 0.3
