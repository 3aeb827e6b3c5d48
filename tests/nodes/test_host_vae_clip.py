"""The VAE and the text encoder as core objects, under core's own nodes."""

import time

import pytest
import torch


@pytest.fixture(autouse=True)
def as_nodes_run():
    """Core runs every node so, and its tiled VAE writes into tensors that may be written to only so."""
    with torch.inference_mode():
        yield


@pytest.fixture
def images() -> torch.Tensor:
    """A smooth moving picture, 9 frames of 96 x 80."""
    t, y, x = torch.meshgrid(torch.linspace(0, 1, 9), torch.linspace(0, 3, 80), torch.linspace(0, 3, 96), indexing="ij")
    return torch.stack([torch.sin(x + 4 * t), torch.cos(y - 2 * t), torch.sin(x * y)], dim=-1) * 0.4 + 0.5


def test_core_nodes_encode_and_decode_video_and_image(tiny_objects, images):
    from nodes import VAEDecode, VAEEncode

    vae = tiny_objects[2]
    network = vae.first_stage_model
    for frames in (images, images[:1]):
        (latent,) = VAEEncode().encode(vae, frames)
        count = 1 + (len(frames) - 1) // 4
        assert latent["samples"].shape == (1, 16, count, 10, 12)
        direct = network.encode(frames.movedim(-1, 0)[None] * 2 - 1)
        torch.testing.assert_close(latent["samples"], direct)
        (decoded,) = VAEDecode().decode(vae, latent)
        assert decoded.shape == frames.shape
        torch.testing.assert_close(decoded, as_images(network.decode(direct)), atol=1e-5, rtol=0)


def as_images(pixels):
    """What the network makes, (1, 3, F, H, W) in -1..1, as IMAGE (F, H, W, 3) in 0..1."""
    return ((pixels[0].movedim(0, -1) + 1) / 2).clamp(0, 1)


def test_what_core_decodes_has_the_range_of_images_and_the_latent_stays(tiny_objects):
    """Newer cores let process_output work in place and ignore what it returns; older ones take what it returns."""
    vae = tiny_objects[2]
    latents = 3 * torch.randn(1, 16, 3, 8, 8, generator=torch.manual_seed(0))
    before, raw = latents.clone(), vae.first_stage_model.decode(latents)
    assert raw.min() < -0.5, "what the network makes reaches below what an image can hold"
    whole = vae.decode(latents)[0]
    torch.testing.assert_close(whole, as_images(raw), atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.decode_tiled(latents, tile_x=32, tile_y=32, overlap=8)[0], whole, atol=1e-5, rtol=0)
    assert torch.equal(latents, before)
    pixels = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    assert vae.process_output(pixels.clone()).tolist() == [0, 0, 0.5, 1, 1]
    assert vae.process_input(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]


def test_every_field_that_core_gives_its_own_vaes_is_there(tiny_objects):
    """So that no release's node finds one missing: core's own are asked what they have."""
    import comfy.sd

    theirs = vars(comfy.sd.VAE({"pixel_space_vae": torch.tensor(1.0)}))
    assert not theirs.keys() - vars(tiny_objects[2]).keys()


def test_the_vae_is_made_without_a_word_in_the_log(tiny_objects, caplog):
    from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
    from comfyui_spacetime.nodes.host.vae.pieces import SpacetimeVAE

    with torch.inference_mode(False):
        SpacetimeVAE(VideoVAE(PRESETS["test"]))
    assert not caplog.records


def test_core_nodes_on_batches_and_on_a_vae_without_memory(tiny_objects, images, monkeypatch):
    """Two clips at once, a batch of latents node, and what core does when memory runs out: tiles."""
    import comfy_extras.nodes_post_processing  # noqa: F401 - newer nodes_latent can only be imported after it
    from comfy_extras.nodes_latent import LatentBatch

    from nodes import VAEDecode, VAEEncode

    vae = tiny_objects[2]
    (one,) = VAEEncode().encode(vae, images)
    batch = getattr(LatentBatch, "execute", None) or LatentBatch().batch
    made = batch(one, one)
    two = made[0] if isinstance(made, tuple) else made.args[0]
    (single,), (both,) = VAEDecode().decode(vae, one), VAEDecode().decode(vae, two)
    torch.testing.assert_close(both, torch.cat([single, single]))

    network, calls = vae.first_stage_model, []
    decode, encode = network.decode, network.encode

    def full_once(function):
        def call(*arguments, **options):
            calls.append(function)
            if calls.count(function) == 1:
                raise torch.OutOfMemoryError
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(network, "decode", full_once(decode))
    monkeypatch.setattr(network, "encode", full_once(encode))
    torch.testing.assert_close(VAEDecode().decode(vae, one)[0], single, atol=1e-4, rtol=0)
    torch.testing.assert_close(VAEEncode().encode(vae, images)[0]["samples"], one["samples"], atol=1e-4, rtol=0)


def test_core_tiled_decode_in_space_equals_the_whole_away_from_the_seams(tiny_objects):
    """Core blends overlapping tiles; where the overlap is wider than the decoder sees, the blend changes nothing."""
    vae = tiny_objects[2]
    latents = torch.randn(1, 16, 3, 24, 32, generator=torch.manual_seed(0))
    whole = vae.decode(latents)
    tiled = vae.decode_tiled(latents, tile_x=16, tile_y=16, overlap=8, tile_t=64, overlap_t=8)
    assert tiled.shape == whole.shape == (1, 9, 192, 256, 3)
    # at a tile's own border the zero padding shows, but there its blending weight is smallest
    assert (tiled - whole).abs().mean() < 2e-3
    inside = (tiled - whole).abs()[:, :, :32, :32]
    assert inside.max() < 1e-5


def test_core_tiled_decode_in_time_and_tiled_encode_have_the_right_shape(tiny_objects, images):
    vae = tiny_objects[2]
    latents = torch.randn(1, 16, 9, 8, 8, generator=torch.manual_seed(0))
    assert vae.decode_tiled(latents, tile_x=32, tile_y=32, overlap=8, tile_t=4, overlap_t=2).shape == (1, 33, 64, 64, 3)
    tiled = vae.encode_tiled(images, tile_x=64, tile_y=64, overlap=32, tile_t=64, overlap_t=8)
    assert tiled.shape == (1, 16, 3, 10, 12)
    assert (tiled - vae.encode(images)).abs().mean() < 0.05


def test_core_nodes_through_the_tiled_path(tiny_objects, images):
    from nodes import VAEDecodeTiled, VAEEncodeTiled

    vae = tiny_objects[2]
    (latent,) = VAEEncodeTiled().encode(vae, images, tile_size=64, overlap=32, temporal_size=64, temporal_overlap=8)
    (decoded,) = VAEDecodeTiled().decode(vae, latent, tile_size=64, overlap=32, temporal_size=8, temporal_overlap=4)
    assert decoded.shape == images.shape


def test_a_frame_count_that_does_not_fit_is_refused_with_a_remedy(tiny_objects, images):
    with pytest.raises(ValueError, match="needs 1 \\+ 4k frames, got 8: trim it to 5"):
        tiny_objects[2].encode(images[:8])


def test_clip_equals_the_plain_encoder(tiny_objects):
    from comfyui_spacetime.models.text.encoder import load_text_encoder
    from nodes import CLIPTextEncode

    encoder = load_text_encoder()
    for prompt in ("", "a red ball falls, bounces and rolls away", "unbekannte Wörter 🎾 一只"):
        ((cond, extra),) = CLIPTextEncode().encode(tiny_objects[1], prompt)[0]
        expected, mask = encoder([prompt])
        assert extra["attention_mask"].shape == cond.shape[:2] == mask.shape
        torch.testing.assert_close(cond, expected, atol=2e-5, rtol=0)


def test_clip_takes_weights_and_endless_prompts(tiny_objects):
    clip = tiny_objects[1]
    plain, weighted = (clip.encode_from_tokens(clip.tokenize(text)) for text in ("a red ball", "a (red:1.5) ball"))
    assert plain.shape == weighted.shape
    assert not torch.allclose(plain[:, 2], weighted[:, 2])
    long = clip.encode_from_tokens(clip.tokenize("word " * 5000))
    assert long.shape == (1, 256, 384)
    assert clip.encode_from_tokens(clip.tokenize("(word " * 300 + ":1.2)" + "x" * 5000)).shape[1] <= 256


@pytest.mark.parametrize("part", ["word ", "(red:1.2) ", "embedding:x ", "(", ":( ", ")", "\ud800", "猫", "!", "\\("])
def test_a_prompt_without_end_is_cut_before_it_is_read(tiny_objects, part):
    began = time.process_time()
    tokens = tiny_objects[1].tokenize(part * (2_000_000 // len(part)))
    assert time.process_time() - began < 10  # most of it is core's, for what is left
    assert len(tokens["minilm"][0]) <= 256


def test_brackets_in_brackets_without_end_are_refused(tiny_objects):
    clip = tiny_objects[1]
    clip.tokenize("(" * 40 + "red" + ")" * 40)
    for text in ("(" * 5000 + "red" + ")" * 5000, "a " + "(b " * 100 + ")" * 100):
        with pytest.raises(ValueError, match="more than 50 brackets within each other: take some out") as refused:
            clip.tokenize(text)
        assert len(str(refused.value)) < 200
