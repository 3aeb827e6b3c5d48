"""Low-rank adapters (LoRA, arXiv 2106.09685): train a small addition to chosen linear layers, apply it, merge it.

Files have the layout that ComfyUI's own LoRA loaders apply to the MODEL: `diffusion_model.LAYER.lora_down.weight`
(rank, in), `.lora_up.weight` (out, rank) and `.alpha`; the weight becomes W + strength * alpha / rank * up @ down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...building import check_finite
from ...checkpoints import Checkpoint
from ...files import read_tensors, write_tensors
from ...remedies import cut
from ...transformer.dit import DiT

PREFIX, DOWN, UP = "diffusion_model.", ".lora_down", ".lora_up"


class LoRALinear(nn.Linear):
    """A linear layer whose weight is fixed, plus up(down(x)), which starts at zero."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_down = nn.Parameter(torch.randn(rank, layer.in_features) * layer.in_features**-0.5)
        self.lora_up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.lora_down), self.lora_up)


class Pair(NamedTuple):
    """What is added to one layer's weight."""

    up: Tensor  # (out, rank)
    down: Tensor  # (rank, in)
    scale: float = 1.0

    def delta(self) -> Tensor:
        """The addition, fp32 (out, in)."""
        return self.scale * (self.up.float() @ self.down.float())


def add_adapters(model: DiT, rank: int, layers: str) -> None:
    """Freeze a model and give adapters to its linear layers whose name matches the regular expression `layers`."""
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise ValueError(f'"{layers}" is no regular expression ({error}): name layers like attn|mlp') from error
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    chosen = {name: module for name, module in linears.items() if pattern.search(name)}
    if not chosen:
        raise ValueError(f'no linear layer is called like "{layers}": there are {", ".join(list(linears)[:12])}, ...')
    smallest = min(min(module.weight.shape) for module in chosen.values())
    if rank > smallest:
        raise ValueError(f"rank {rank} is more than the {smallest} of the smallest layer: lower --lora")
    model.requires_grad_(False)
    for name, module in chosen.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(module, rank))


def pairs_of(weights: Mapping[str, Tensor]) -> dict[str, Pair]:
    """The adapters among a model's weights, by layer."""
    layers = [name.removesuffix(DOWN) for name in weights if name.endswith(DOWN)]
    alone = next((layer for layer in layers if layer + UP not in weights), None)
    if alone is not None:
        raise ValueError(f"the adapter of {cut(alone, 60)} has only one of its two matrices: train it again")
    return {layer: Pair(weights[layer + UP], weights[layer + DOWN]) for layer in layers}


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights with its adapters added in; a model without adapters stays as it is."""
    state = {name: weight for name, weight in weights.items() if not name.endswith((DOWN, UP))}
    for layer, pair in pairs_of(weights).items():
        name = f"{layer}.weight"
        state[name] = (state[name].float() + pair.delta()).to(state[name].dtype)
    return state


def save_lora(path: Path, weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write the adapters among a model's weights."""
    tensors: dict[str, Tensor] = {}
    for layer, pair in pairs_of(weights).items():
        named = {"lora_up.weight": pair.up, "lora_down.weight": pair.down}
        named["alpha"] = torch.tensor(float(len(pair.down)))
        tensors |= {f"{PREFIX}{layer}.{name}": value for name, value in named.items()}
    write_tensors(path, tensors, {"spacetime_lora": json.dumps(dict(meta))})


def read_lora(path: Path) -> dict[str, Pair]:
    """The adapters of a file. ValueError for a file of another kind."""
    tensors, _ = read_tensors(path)
    check_finite(tensors, path.name)
    ending = f"{DOWN}.weight"
    layers = [key.removesuffix(ending) for key in tensors if key.startswith(PREFIX) and key.endswith(ending)]
    if not layers or any(f"{layer}{UP}.weight" not in tensors for layer in layers):
        raise ValueError(f"{path.name} is no LoRA of ours: choose the lora.safetensors of a run with --lora")
    pairs = {}
    for layer in layers:
        up, down = tensors[f"{layer}{UP}.weight"], tensors[layer + ending]
        if up.ndim != 2 or down.ndim != 2 or up.shape[1] != len(down) or not len(down):
            raise ValueError(
                f"{path.name} is damaged: the matrices of {cut(layer, 60)}, {tuple(up.shape)} and {tuple(down.shape)}, "
                "cannot be multiplied; get the file again"
            )
        alpha = tensors.get(f"{layer}.alpha", torch.tensor(float(len(down))))
        if alpha.numel() != 1:
            raise ValueError(f"{path.name} is damaged: alpha of {cut(layer, 60)} is no number; get the file again")
        pairs[layer.removeprefix(PREFIX)] = Pair(up, down, float(alpha) / len(down))
    return pairs


def merge(checkpoint: Checkpoint, path: Path, strength: float = 1.0) -> Checkpoint:
    """A checkpoint with the LoRA of a file added to its DiT. ValueError when it belongs to another model."""
    state = dict(checkpoint.dit_state)
    for layer, pair in read_lora(path).items():
        weight = state.get(f"{layer}.weight")
        if weight is None or weight.shape != (len(pair.up), pair.down.shape[1]):
            raise ValueError(f"{path.name} does not fit this DiT ({cut(layer, 60)}): it was trained on another model")
        state[f"{layer}.weight"] = (weight.float() + strength * pair.delta()).to(weight.dtype)
    return Checkpoint(checkpoint.dit_config, state, checkpoint.vae_config, checkpoint.vae_state, checkpoint.meta)
