"""Halves of a product, and weights of a norm, without calling the layer where it is no more than its weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comfyui_spacetime.models.transformer import plain
from comfyui_spacetime.models.transformer.plain import halves, is_plain, norm_weights


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 2 * 40, bias=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 7, 65])
def test_halves_are_those_of_the_whole_and_lie_in_one_piece(layer, dtype, tokens):
    layer, x = layer.to(dtype), torch.randn(2, tokens, 24).to(dtype)
    with torch.no_grad():
        found = halves(layer, x)
        expected = layer(x).chunk(2, dim=-1)
    for one, other in zip(found, expected, strict=True):
        assert one.is_contiguous()
        torch.testing.assert_close(one, other)


def test_gradients_reach_the_layer(layer):
    x = torch.randn(3, 24)
    gradients = []
    for first, second in (halves(layer, x), F.linear(x, layer.weight).chunk(2, dim=-1)):
        (first * second).sum().backward()
        gradients.append(layer.weight.grad)
        layer.weight.grad = None
    assert torch.equal(*gradients)


class Doubled(nn.Linear):
    """A layer that does something to its weights on the way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, 2 * self.weight)


def own_kind(layer: nn.Linear) -> nn.Linear:
    other = Doubled(24, 80, bias=False)
    other.load_state_dict(layer.state_dict())
    return other


def own_forward(layer: nn.Linear) -> nn.Linear:
    layer.forward = lambda x: F.linear(x, 2 * layer.weight)
    return layer


def hooked(layer: nn.Linear) -> nn.Linear:
    layer.register_forward_hook(lambda _module, _given, out: 2 * out)
    return layer


def hooked_before(layer: nn.Linear) -> nn.Linear:
    layer.register_forward_pre_hook(lambda _module, given: (2 * given[0],))
    return layer


def parametrized(layer: nn.Linear) -> nn.Linear:
    class Twice(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    return layer


@pytest.mark.parametrize("change", [own_kind, own_forward, hooked, hooked_before, parametrized])
def test_a_layer_that_does_more_is_called_as_a_whole(layer, change):
    x = torch.randn(3, 24)
    assert is_plain(layer)
    with torch.no_grad():
        expected = [2 * half for half in halves(layer, x)]
        changed = change(layer)
        assert not is_plain(changed)
        for one, other in zip(halves(changed, x), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_a_host_says_when_its_layers_are(monkeypatch):
    other = own_kind(nn.Linear(24, 80, bias=False))
    answers = iter((True, False))
    monkeypatch.setitem(plain.PLAIN, Doubled, lambda _: next(answers))
    assert is_plain(other)
    assert not is_plain(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", [lambda norm: norm, hooked, hooked_before, parametrized])
def test_weights_of_a_norm_are_those_that_it_applies(dtype, change):
    torch.manual_seed(0)
    norm = nn.RMSNorm(24, eps=1e-6, dtype=dtype).requires_grad_(False)
    norm = change(norm)
    nn.init.normal_(norm.weight if change is not parametrized else norm.parametrizations.weight.original)
    found = norm_weights(norm, torch.zeros(1, 24, dtype=dtype))
    torch.testing.assert_close(found, norm(torch.ones(24, dtype=dtype)))
