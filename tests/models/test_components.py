"""Patches as colours: a linear map, so what does not change it does not change the picture."""

import torch

from comfyui_spacetime.models.components import principal_components, sizes


def patches(count=200, width=12):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, width, generator=generator) * torch.linspace(3, 0.1, width)


def test_shifting_turning_and_scaling_the_values_changes_no_picture():
    values = patches()
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5))).Q
    plain = principal_components(values)
    for other in (values + 7, values * 3, values @ turn):
        turned = principal_components(other)
        torch.testing.assert_close(torch.tensor(turned.shares), torch.tensor(plain.shares), atol=1e-5, rtol=1e-4)
        for channel in range(3):  # the sign of a component is free
            a, b = plain.colours[:, channel], turned.colours[:, channel]
            assert min((a - b).abs().max(), (a - (1 - b)).abs().max()) < 1e-3


def test_shares_are_those_of_an_svd_and_fall():
    values = patches()
    strengths = torch.linalg.svdvals((values - values.mean(0)).double()).square()
    torch.testing.assert_close(
        torch.tensor(principal_components(values).shares).double(), strengths[:3] / strengths.sum()
    )


def test_the_order_of_patches_is_theirs():
    values = patches()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(principal_components(values[order]).colours, principal_components(values).colours[order])


def test_patches_that_do_not_differ_are_grey():
    for values in (torch.zeros(6, 8), torch.ones(6, 8), torch.randn(1, 8)):
        found = principal_components(values)
        assert torch.equal(found.colours, torch.full_like(found.colours, 0.5))
        assert found.shares == (0.0, 0.0, 0.0)


def test_patches_of_few_values_have_fewer_colours():
    found = principal_components(patches(width=2))
    assert torch.equal(found.colours[:, 2], torch.full((200,), 0.5))
    assert found.shares[2] == 0


def test_size_is_one_for_unit_noise():
    noise = torch.randn(50, 4000, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(sizes(noise), torch.ones(50), atol=0.06, rtol=0)
