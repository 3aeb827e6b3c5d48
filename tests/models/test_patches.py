"""Patchify and pack lose nothing; bad shapes are refused with a sentence."""

from itertools import product

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.patches import (
    Grid,
    Patch,
    Tokens,
    change_mask,
    from_patches,
    pack,
    patchify,
    split,
    to_patches,
    unpatchify,
)


def random_latents(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("patch", [(1, 2, 2), (1, 1, 1), (2, 2, 4), (3, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_round_trip_is_exact(patch: Patch, dtype: torch.dtype) -> None:
    latents = random_latents(2, 5, 6, 4, 8).to(dtype)
    mask = torch.rand(2, 1, 6, 4, 8, generator=torch.Generator().manual_seed(1))
    tokens = patchify(latents, patch, mask)
    assert torch.equal(unpatchify(tokens), latents)
    restored = change_mask(tokens)
    assert restored is not None
    assert torch.equal(restored, mask)


def test_order_of_tokens_and_of_places_in_a_token() -> None:
    latents = random_latents(1, 3, 4, 4, 6)
    pt, ph, pw = patch = (2, 2, 3)
    tokens = to_patches(latents, patch)
    grid = Grid.of(latents, patch)
    for n, (t, h, w) in enumerate(product(range(grid.frames), range(grid.height), range(grid.width))):
        cut = latents[:, :, t * pt : (t + 1) * pt, h * ph : (h + 1) * ph, w * pw : (w + 1) * pw]
        expected = cut.permute(0, 2, 3, 4, 1).reshape(1, -1)  # place first, channel last
        assert torch.equal(tokens[:, n], expected)
    assert torch.equal(from_patches(tokens, grid, patch), latents)


def test_same_order_as_a_strided_convolution() -> None:
    """A convolution with stride = patch (how DiT, Latte and Wan embed) sees the same tokens in the same order."""
    latents, patch = random_latents(2, 4, 4, 6, 8).double(), (1, 2, 2)
    conv = torch.nn.Conv3d(4, 7, patch, patch, bias=False, dtype=torch.float64)
    weight = conv.weight.permute(0, 2, 3, 4, 1).flatten(1)  # (7, P)
    expected = conv(latents).flatten(2).transpose(1, 2)
    assert torch.allclose(to_patches(latents, patch) @ weight.T, expected, atol=1e-12)


def test_coordinates_follow_the_token_order() -> None:
    latents = torch.stack(torch.meshgrid(torch.arange(3.0), torch.arange(2.0), torch.arange(4.0), indexing="ij"))
    tokens = patchify(latents[None], (1, 1, 1))
    assert torch.equal(tokens.values[0], tokens.coordinates)


def test_mask_of_one_clip_serves_the_batch_and_patches_report_their_mean() -> None:
    latents = random_latents(3, 4, 2, 4, 4)
    mask = torch.zeros(1, 1, 2, 4, 4)
    mask[..., 1, :, :] = 1
    mask[..., 0, :2, :1] = 1
    tokens = patchify(latents, mask=mask)
    assert tokens.patch_change is not None
    assert tokens.patch_change.shape == (3, 8)
    assert tokens.patch_change[2].tolist() == [0.5, 0, 0, 0, 1, 1, 1, 1]
    assert patchify(latents).patch_change is None


def test_packing_keeps_every_clip() -> None:
    masked = patchify(random_latents(2, 4, 3, 4, 6), mask=torch.rand(2, 1, 3, 4, 6))
    clips = [masked, patchify(random_latents(2, 4, 1, 8, 2)), patchify(random_latents(2, 4, 5, 2, 2))]
    packed = pack(clips)
    assert packed.values.shape[1] == sum(clip.values.shape[1] for clip in clips)
    for clip, back in zip(clips, split(packed), strict=True):
        assert torch.equal(unpatchify(back), unpatchify(clip))
        assert back.change is not None
        assert torch.equal(back.change, torch.ones_like(back.change) if clip.change is None else clip.change)
    starts = packed.coordinates.sum(dim=1) == 0
    assert starts.nonzero().flatten().tolist() == [0, masked.values.shape[1], masked.values.shape[1] + 4]


def test_bad_input_is_named() -> None:
    latents = random_latents(1, 4, 3, 4, 6)
    with pytest.raises(ValueError, match="3 frames x 4 x 6 cannot be cut into patches of 2 x 2 x 2"):
        patchify(latents, (2, 2, 2))
    with pytest.raises(ValueError, match="video latents"):
        patchify(latents[0])
    with pytest.raises(ValueError, match=r"expected \(1, 1, 3, 4, 6\)"):
        patchify(latents, mask=torch.ones(1, 1, 3, 4, 4))
    tokens = patchify(latents)
    with pytest.raises(ValueError, match="do not fit"):
        tokens.with_values(tokens.values[:, 1:])
    with pytest.raises(ValueError, match="does not fit 18 patches"):
        Tokens(tokens.values, tokens.grids, tokens.patch, 4, torch.ones(1, 18))
    with pytest.raises(ValueError, match="split them"):
        unpatchify(pack([tokens, tokens]))
    with pytest.raises(ValueError, match="same batch size"):
        pack([tokens, patchify(latents.expand(2, -1, -1, -1, -1))])
    with pytest.raises(ValueError, match="at least one"):
        pack([])
    with pytest.raises(ValueError, match="before forward diffusion"):
        pack([Tokens(tokens.values, tokens.grids, tokens.patch, 4, trajectory=object())])
