"""Products with parts of a layer's weights, where a layer is no more than its product.

A host's layers may cast, patch or fetch their weights on the way; such a layer is only ever called as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

from torch import Tensor, nn
from torch.nn import functional as F

from .gradients import followed

# types of layers, and what says of one of them that its weights are used as they are
PLAIN: dict[type, Callable[[nn.Linear], bool]] = {nn.Linear: lambda _: True}


def is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a layer multiplies by its weights as they are, and nothing listens to it."""
    check = PLAIN.get(type(layer))
    if check is None or not isinstance(layer, nn.Linear) or "forward" in vars(layer):
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks) and check(layer)


def halves(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """layer(x) of a layer without bias, split in two along the last axis.

    On CPUs in two products where that can be: the halves then lie in one piece each, and what follows works on them in
    half the time. Their values are the same.
    """
    if x.device.type == "cpu" and is_plain(layer) and not followed(x, layer.weight):
        one, other = layer.weight.chunk(2)
        return F.linear(x, one), F.linear(x, other)
    first, second = layer(x).chunk(2, dim=-1)
    return first, second
