"""VAE Decode Video with deflicker: our VAE in pieces and in loops, VAEs of other models, and what is refused."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.tools.bench import tiny_vaes

KINDS = {"wan2.1": (4, 16), "wan2.2": (4, 48), "ltx": (8, 128)}  # frames per latent, latents' channels


def decoded(vae, latents: Tensor, **options) -> Tensor:
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.latents import VAEDecode

    latent = {"samples": latents} | ({sockets.LOOP: True} if options.pop("loop", False) else {})
    return VAEDecode.execute(vae, latent, 12.0, "images and video", **options).result[0]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.manual_seed(0))


def test_both_clips_of_a_batch_are_deflickered_each_for_itself(tiny_objects):
    vae, latents = tiny_objects[2], noise(2, 16, 5, 4, 6)
    images = decoded(vae, latents, deflicker=True)
    assert images.shape == (34, 32, 48, 3)
    assert not torch.allclose(images, decoded(vae, latents), atol=0.01)
    torch.testing.assert_close(images[17:], decoded(vae, latents[1:], deflicker=True), atol=1e-5, rtol=0)
    torch.testing.assert_close(decoded(vae, latents[:, :, :1], deflicker=True), decoded(vae, latents[:, :, :1]))


def test_a_file_has_as_many_frames(tiny_objects, tmp_path, monkeypatch):
    import folder_paths

    from comfyui_spacetime.nodes.latents import VAEDecode

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    made = VAEDecode.execute(tiny_objects[2], {"samples": noise(1, 16, 12, 4, 4)}, 12.0, "video file", True).result
    assert made[1].get_frame_count() == 45


@pytest.mark.parametrize("long", [False, True])
def test_a_loop_decodes_the_same_from_any_latent_on(tiny_objects, monkeypatch, long):
    from comfyui_spacetime.nodes.host.vae import pieces as host_vae

    vae, latents = tiny_objects[2], noise(1, 16, 9, 4, 4)
    whole = decoded(vae, latents, deflicker=True, loop=True)
    assert len(whole) == 36
    if long:  # decoded as a stream that begins before its first frame
        monkeypatch.setattr(host_vae, "PIECE_AREA", 1)
        torch.testing.assert_close(decoded(vae, latents, deflicker=True, loop=True), whole, atol=1e-5, rtol=0)
    rolled = decoded(vae, latents.roll(4, dims=2), deflicker=True, loop=True)
    torch.testing.assert_close(rolled, whole.roll(16, dims=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_vaes_of_other_models(comfy_host, one_thread, name):
    each, channels = KINDS[name]
    vae = tiny_vaes.vae(name)
    latents = noise(1, channels, 4, 2, 2)
    with torch.inference_mode():
        plain, made = (decoded(vae, latents, deflicker=on) for on in (False, True))
        loop, rolled = (decoded(vae, value, deflicker=True, loop=True) for value in (latents, latents.roll(2, dims=2)))
    assert len(made) == len(plain) == 1 + 3 * each
    assert not torch.allclose(made, plain, atol=0.01)
    assert len(loop) == 4 * each
    for one, other in zip(rolled, loop.roll(2 * each, dims=0), strict=True):
        assert float((one - other).square().mean().sqrt()) <= 1 / 256


def test_a_vae_without_time_is_refused(comfy_host):
    import comfy.sd
    from comfy.pixel_space_convert import PixelspaceConversionVAE

    PixelspaceConversionVAE()
    vae = comfy.sd.VAE({"pixel_space_vae": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="turn deflicker off"):
        decoded(vae, torch.rand(2, 3, 16, 16), deflicker=True)
