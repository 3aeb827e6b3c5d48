"""Core's VAEs of Wan and LTX-Video under our nodes: sizes, stills, clips, and loops that decode without a seam."""

from functools import cache

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.tools.bench import tiny_vaes

# frames per latent, what sides must be multiples of, latents' channels
KINDS = {"wan2.1": (4, 16, 16), "wan2.2": (4, 32, 48), "ltx": (8, 32, 128)}
HALF_A_STEP = 1 / 512


@cache
def small(name: str):
    return tiny_vaes.vae(name)


@pytest.fixture(autouse=True)
def without_gradients(comfy_host, one_thread):
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    small.cache_clear()


def rms(value: Tensor) -> float:
    return float(value.float().square().mean().sqrt())


def latents(name: str, length: int) -> Tensor:
    return torch.randn(1, KINDS[name][2], length, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", KINDS)
def test_a_loop_decodes_the_same_from_any_latent_on(name):
    from comfyui_spacetime.nodes.host.vae.pieces import decode_pieces

    each, clip = KINDS[name][0], latents(name, 5)
    frames = torch.cat(list(decode_pieces(small(name), clip, cyclic=True)))
    rolled = torch.cat(list(decode_pieces(small(name), clip.roll(2, dims=2), cyclic=True)))
    assert len(frames) == 5 * each
    assert rms(frames - frames.mean()) > 0.05, "there is a picture"
    for one, other in zip(rolled, frames.roll(2 * each, dims=0), strict=True):
        assert rms(one - other) <= 2 * HALF_A_STEP


@pytest.mark.parametrize("name", KINDS)
def test_the_end_of_a_loop_leads_to_its_beginning(name):
    """Two rounds in one decode are the reference: there is nothing special at the join between them."""
    from comfyui_spacetime.models.vae.loops import around
    from comfyui_spacetime.nodes.host.vae.others import LEADS, decode_clip, decode_loop

    each, clip = KINDS[name][0], latents(name, 4)
    long = decode_clip(small(name), around(clip, LEADS[-1] + 4, LEADS[-1]))
    begin = 1 + (LEADS[-1] + 3) * each
    loop, plain = decode_loop(small(name), clip), decode_clip(small(name), clip)
    reference = long[begin : begin + 4 * each]
    assert rms(loop - reference) <= HALF_A_STEP
    assert rms(plain[-each:] - reference[-each:]) > 10 * HALF_A_STEP, "a decoder that remembers, or this shows nothing"


IN_TIME = {"wan2.1": 16, "wan2.2": 48, "ltx": 128, "h3": 24}  # channels


def through(name: str, length: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    """A clip of so many latents decoded and encoded in pieces, each as the whole; how long what the VAE got was."""
    from comfyui_spacetime.nodes.host.vae import in_time
    from comfyui_spacetime.nodes.host.vae.others import decode_clip, time_of

    vae = small(name)
    monkeypatch.setattr(in_time, "PIECE", 10)
    monkeypatch.setattr(in_time, "WHOLE", 20)
    clip = torch.randn(1, IN_TIME[name], length, 2, 2, generator=torch.Generator().manual_seed(1))
    whole = decode_clip(vae, clip)
    encoded = vae.encode(whole)
    decoded_at_once, encoded_at_once = [], []
    decode, encode = vae.decode, vae.encode
    monkeypatch.setattr(vae, "decode", lambda one: decoded_at_once.append(one.shape[2]) or decode(one))
    monkeypatch.setattr(vae, "encode", lambda one: encoded_at_once.append(len(one)) or encode(one))
    pieces = list(in_time.decode_long(vae, clip))
    again = in_time.encode_long(vae, iter(whole.split(7)))
    assert len(pieces) > 1
    assert torch.cat(pieces).shape == whole.shape
    assert rms(torch.cat(pieces) - whole) <= HALF_A_STEP
    assert again.shape == encoded.shape
    assert rms(again - encoded) <= HALF_A_STEP * float(encoded.std())
    assert time_of(vae).count(length) == len(whole)
    monkeypatch.undo()
    return decoded_at_once, encoded_at_once


@pytest.mark.parametrize("name", IN_TIME)
def test_long_clips_go_through_in_pieces_that_do_not_grow(name, monkeypatch):
    if tiny_vaes.lacking(name):
        pytest.skip(tiny_vaes.lacking(name))
    short, long = (through(name, length, monkeypatch) for length in (32, 42))
    for one, other in zip(short, long, strict=True):
        assert max(other) <= max(one)  # a longer one has no longer pieces
    assert max(long[0]) < 32


def test_a_network_with_a_cache_says_when_memory_ran_out(monkeypatch):
    """Core then takes a piece apart in tiles, for which the cache is of no use."""
    from comfyui_spacetime.nodes.host.vae.carried import Carried

    network = small("wan2.1").first_stage_model
    tile = torch.randn(1, 16, 3, 2, 2)
    with Carried(network.decoder).piece():
        network.decode(tile)
        with pytest.raises(ValueError, match="too little memory"):
            network.decode(tile)
    network.decode(tile)


def test_a_vae_that_remembers_all_gets_its_clip_whole(monkeypatch):
    from comfyui_spacetime.nodes.host.vae import in_time

    class Remembers:
        """Each frame is the mean of all latents until there."""

        latent_dim = 3
        first_stage_model = torch.nn.Identity()

        def temporal_compression_decode(self) -> int:
            return 1

        def decode(self, clip: Tensor) -> Tensor:
            sums = clip.cumsum(2) / torch.arange(1, clip.shape[2] + 1).reshape(1, 1, -1, 1, 1)
            return sums[:, :3].movedim(1, -1)

    clip = 1 + torch.randn(1, 4, in_time.WHOLE + 5, 2, 2, generator=torch.Generator().manual_seed(0)).cumsum(2)
    (whole,) = in_time.decode_long(Remembers(), clip)
    assert torch.equal(whole, Remembers().decode(clip)[0])


def test_who_looks_ahead(comfy_host):
    from comfyui_spacetime.nodes.host.vae.others import looks_ahead

    assert {name: looks_ahead(small(name), KINDS[name][2]) for name in KINDS} == {
        "wan2.1": False,
        "wan2.2": False,
        "ltx": True,
    }


@pytest.mark.parametrize("name", KINDS)
def test_stills_and_clips_are_cut_to_what_the_vae_takes(name, monkeypatch):
    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.latents import VAEEncode
    from comfyui_spacetime.nodes.tasks.along_time import AnimateImage

    said: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: said.append(text))
    each, side, channels = KINDS[name]
    images = torch.rand(2 * each + 3, side + 10, 2 * side + 5, 3, generator=torch.manual_seed(0))
    latent, _, count = VAEEncode.execute(small(name), images, 0).result
    compression = side if side == 32 and name == "ltx" else side // 2
    assert count == 2 * each + 1
    assert latent["samples"].shape == (1, channels, 3, side // compression, 2 * side // compression)
    assert f"{2 * each + 1} frames of {2 * side} x {side}; the last 2" in said[0]
    animated, _, count = AnimateImage.execute(small(name), images[:2], "0 end", 2.0, 16.0).result
    assert count == 1 + each * round(31 / each)
    known = animated["noise_mask"].amax(dim=(0, 1, 3, 4))
    assert known.tolist() == [0, *[1] * (len(known) - 2), 0]


def test_a_decoder_that_adds_noise_of_its_own_ends_too(monkeypatch):
    """LTX-Video from 0.9.1 on: frames never agree with themselves, so more latents in front are not tried for ever."""
    from comfyui_spacetime.nodes.host.vae.others import decode_loop

    vae, decoded = small("ltx"), []
    original = vae.first_stage_model.decode

    def noisy(value: Tensor, **options) -> Tensor:  # newer hosts hand it a buffer to write into
        decoded.append(value.shape[2])
        return original(value + 0.3 * torch.randn_like(value), **options)

    monkeypatch.setattr(vae.first_stage_model, "decode", noisy)
    assert len(decode_loop(vae, latents("ltx", 4))) == 32
    assert decoded[2:] == sorted(decoded[2:])
    assert max(decoded) < 4 + 2 * 32


def test_vaes_without_time_and_latents_of_another_kind_are_refused():
    from comfyui_spacetime.nodes.host.vae.others import decode_loop, encode_still

    class Still:
        latent_dim = 2

    with pytest.raises(ValueError, match="knows no time"):
        decode_loop(Still(), latents("wan2.1", 4))
    with pytest.raises(ValueError, match="48 channels and this VAE decodes 16"):
        decode_loop(small("wan2.1"), latents("wan2.2", 4))
    with pytest.raises(ValueError, match="both sides need 32 pixels"):
        encode_still(small("ltx"), torch.rand(1, 16, 64, 3))
