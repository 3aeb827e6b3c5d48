"""Low-rank additions (LoRA, arXiv 2106.09685) to a network's linear layers: W + scale * up @ down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .remedies import cut

DOWN, UP = ".lora_down", ".lora_up"


class Pair(NamedTuple):
    """What is added to one layer's weight."""

    up: Tensor  # (out, rank)
    down: Tensor  # (rank, in)
    scale: float = 1.0

    def delta(self) -> Tensor:
        """The addition, fp32 (out, in)."""
        return self.scale * (self.up.float() @ self.down.float())

    def reduced(self, rank: int) -> Pair:
        """The nearest addition of at most this rank: the largest singular values of delta, shared by both matrices."""
        if rank >= len(self.down):
            return self
        left, values, right = torch.linalg.svd(self.delta(), full_matrices=False)
        root = values[:rank].sqrt()
        return Pair(left[:, :rank] * root, root[:, None] * right[:rank])


def pairs_of(weights: Mapping[str, Tensor]) -> dict[str, Pair]:
    """The adapters among a model's weights, LAYER.lora_down and LAYER.lora_up, by layer."""
    layers, others = ([name.removesuffix(end) for name in weights if name.endswith(end)] for end in (DOWN, UP))
    alone = sorted(set(layers) ^ set(others))
    if alone:
        raise ValueError(f"the adapter of {cut(alone[0], 60)} has only one of its two matrices: train it again")
    return {layer: Pair(weights[layer + UP], weights[layer + DOWN]) for layer in layers}


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights with its adapters added in; a model without adapters stays as it is."""
    state = {name: weight for name, weight in weights.items() if not name.endswith((DOWN, UP))}
    for layer, pair in pairs_of(weights).items():
        name = f"{layer}.weight"
        state[name] = (state[name].float() + pair.delta()).to(state[name].dtype)
    return state


def misfit(weights: Mapping[str, Tensor], pairs: Mapping[str, Pair]) -> str:
    """The first layer whose adapter does not fit the weights; empty where all do."""
    for layer, pair in pairs.items():
        weight = weights.get(f"{layer}.weight")
        fits = pair.up.ndim == pair.down.ndim == 2 and pair.up.shape[1] == len(pair.down)
        if weight is None or not fits or weight.shape != (len(pair.up), pair.down.shape[1]):
            return layer
    return ""
