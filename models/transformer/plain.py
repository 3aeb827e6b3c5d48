"""Layers whose weights are used as they are, so that one may work with the weights instead of calling the layer.

A host's layers may cast, patch or fetch their weights on the way; such a layer is only ever called as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .gradients import followed

# types of layers, and what says of one of them that its weights are used as they are
PLAIN: dict[type, Callable[[Any], bool]] = {nn.Linear: lambda _: True, nn.RMSNorm: lambda _: True}


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer uses its weights as they are, and nothing listens to it."""
    check = PLAIN.get(type(layer))
    if check is None or "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks:
        return False
    return check(layer)


def plain_weight(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The weights of a plain layer on a CPU, which x could be given to, where autograd does not follow them."""
    if x.device.type != "cpu" or not is_plain(layer):
        return None
    weight = layer.weight
    return weight if isinstance(weight, Tensor) and weight.dtype == x.dtype and not followed(x, weight) else None


def halves(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """layer(x) of a linear layer without bias, split in two along the last axis.

    On CPUs in two products where that can be: the halves then lie in one piece each, and what follows works on them in
    half the time. Their values are the same.
    """
    weight = plain_weight(layer, x)
    if weight is not None:
        one, other = weight.chunk(2)
        return F.linear(x, one), F.linear(x, other)
    first, second = layer(x).chunk(2, dim=-1)
    return first, second


def norm_weights(norm: nn.Module, x: Tensor) -> Tensor:
    """The weights of an RMSNorm layer as it would apply them to x.

    A layer that is not plain is asked itself, by norming ones.
    """
    weight = plain_weight(norm, x)
    if weight is not None:
        return weight
    scale: Tensor = norm(x.new_ones(x.shape[-1]))
    return scale
