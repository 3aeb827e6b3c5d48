"""Cycle spinning along time: steps between latents shrink, pieces equal the whole, a loop has no beginning."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
from comfyui_spacetime.models.vae.deflicker import deflicker, deflicker_loop, share_of_the_second


def as_they_are(pieces):
    yield from list(pieces)


def block_means(each: int):
    """A VAE that keeps the mean of each latent's frames: frame 0 alone, then `each` at a time."""

    def round_trip(pieces):
        frames = torch.cat(list(pieces))
        first, blocks = frames[:1], frames[1:].unflatten(0, (-1, each))
        yield torch.cat([first, blocks.mean(dim=1, keepdim=True).expand_as(blocks).flatten(0, 1)])

    return round_trip


def steps(frames: Tensor) -> Tensor:
    return frames.diff(dim=0).abs().amax(dim=(1, 2, 3))


def ramp(count: int) -> Tensor:
    return torch.linspace(0, 1, count)[:, None, None, None].expand(count, 2, 2, 3)


@pytest.mark.parametrize("each", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("cut", [1, 3, 100])
def test_a_perfect_vae_gives_the_frames_back_in_any_pieces(each, cut):
    frames = torch.rand(1 + 5 * each, 2, 2, 3, generator=torch.manual_seed(0))
    made = torch.cat(list(deflicker(frames.split(cut), as_they_are, each)))
    torch.testing.assert_close(made, frames)
    loop = frames[1:]
    torch.testing.assert_close(deflicker_loop(loop, lambda frames: frames, each), loop)


@pytest.mark.parametrize("each", [2, 3, 4, 8])
def test_both_decodings_have_their_share_and_neither_is_used_at_its_own_steps(each):
    share = share_of_the_second(0, 1 + 4 * each, each)
    assert ((share > 0) & (share < 1)).all()
    inside = share[1:].unflatten(0, (-1, each))
    assert (inside[:, [0, -1]] >= 0.5).all(), "first and last frames of a latent come from the second decoding"
    torch.testing.assert_close(share_of_the_second(7, 5, each), share_of_the_second(0, 12, each)[7:])
    loop = share_of_the_second(0, 4 * each, each, cyclic=True)
    torch.testing.assert_close(loop, inside.flatten())


@pytest.mark.parametrize("each", [2, 4, 8])
def test_steps_from_latent_to_latent_are_spread_over_the_frames(each):
    """What moves evenly, and is decoded in steps, moves almost evenly again."""
    (plain,) = block_means(each)([ramp(1 + 6 * each)])
    made = torch.cat(list(deflicker([plain], block_means(each), each)))
    middle = slice(each, -each)  # the ends are still: a latent of copies stands there
    assert steps(made)[middle].max() < 0.7 * steps(plain)[middle].max()
    even = 1 / (6 * each)
    if each > 2:
        assert (steps(made)[middle] > 0.1 * even).float().mean() > 0.9, "every frame moves"


def test_it_works_in_pieces_with_few_frames_in_hand():
    torch.manual_seed(0)
    vae = VideoVAE(PRESETS["test"]).eval()
    torch.nn.init.normal_(vae.decoder.conv_out.weight, std=0.1)
    frames = torch.rand(49, 16, 16, 3, generator=torch.manual_seed(1))
    taken = given = most = 0

    def arriving():
        nonlocal taken
        for piece in frames.split(8):
            taken += len(piece)
            yield piece

    @torch.no_grad()
    def round_trip(pieces):
        pixels = (piece.permute(3, 0, 1, 2)[None] for piece in pieces)
        for decoded in vae.decode_stream(vae.encode_stream(pixels)):
            yield decoded[0].permute(1, 2, 3, 0)

    made = []
    for piece in deflicker(arriving(), round_trip, 4):
        most, given = max(most, taken - given), given + len(piece)
        made.append(piece)
    whole = torch.cat(list(deflicker([frames], round_trip, 4)))
    assert whole.shape == frames.shape
    torch.testing.assert_close(torch.cat(made), whole, atol=1e-5, rtol=1e-5)
    assert most <= 24
    assert not torch.allclose(whole, frames, atol=1e-2)


def test_a_loop_stays_one():
    torch.manual_seed(0)
    vae = VideoVAE(PRESETS["test"]).eval()
    torch.nn.init.normal_(vae.decoder.conv_out.weight, std=0.1)

    @torch.no_grad()
    def round_trip(frames):
        latents = vae.encode(frames.permute(3, 0, 1, 2)[None], cyclic=True)
        return vae.decode(latents, cyclic=True)[0].permute(1, 2, 3, 0)

    loop = torch.rand(16, 16, 16, 3, generator=torch.manual_seed(1))
    made = deflicker_loop(loop, round_trip, 4)
    assert not torch.allclose(made, loop, atol=1e-2)
    torch.testing.assert_close(deflicker_loop(loop.roll(4, 0), round_trip, 4), made.roll(4, 0), atol=1e-5, rtol=0)


def test_a_still_stays_as_it_is():
    still = torch.rand(1, 4, 4, 3)
    torch.testing.assert_close(torch.cat(list(deflicker([still], as_they_are, 4))), still)
    assert list(deflicker([], as_they_are, 4)) == []
