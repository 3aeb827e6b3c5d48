"""Low-rank adapters (LoRA, arXiv 2106.09685): train a small addition to chosen linear layers, apply it, merge it.

Files have the layout that ComfyUI's own LoRA loaders apply to the MODEL: `diffusion_model.LAYER.lora_down.weight`
(rank, in), `.lora_up.weight` (out, rank) and `.alpha`; the weight becomes W + strength * alpha / rank * up @ down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...building import check_finite
from ...checkpoints import Checkpoint, recommended_of
from ...files import parsed_json, read_tensors, write_tensors
from ...lora import DOWN, UP, Pair, misfit, pairs_of
from ...recommended import Recommended
from ...remedies import cut
from ...transformer.dit import DiT

PREFIX = "diffusion_model."


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


def save_lora(path: Path, weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write the adapters among a model's weights."""
    tensors: dict[str, Tensor] = {}
    for layer, pair in pairs_of(weights).items():
        named = {"lora_up.weight": pair.up, "lora_down.weight": pair.down}
        named["alpha"] = torch.tensor(float(len(pair.down)))
        tensors |= {f"{PREFIX}{layer}.{name}": value for name, value in named.items()}
    write_tensors(path, tensors, {"spacetime_lora": json.dumps(dict(meta))})


def read_few_steps(path: Path) -> tuple[dict[str, Pair], Recommended]:
    """The adapters of a distilled model's file, and how the model with them is run. ValueError for other files."""
    said = parsed_json((read_tensors(path)[1] or {}).get("spacetime_lora", "{}"), f"the header of {path.name}", dict)
    best = recommended_of(said)
    if best is None:
        raise ValueError(
            f"{path.name} does not say in how many steps it is run: choose the lora.safetensors of a `train distill`"
        )
    return read_lora(path), best


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
    """A checkpoint with the LoRA of a file added to its DiT; a form for few steps, which was the DiT's before, goes.

    ValueError when the LoRA belongs to another model.
    """
    state, pairs = dict(checkpoint.dit_state), read_lora(path)
    wrong = misfit(state, pairs)
    if wrong:
        raise ValueError(f"{path.name} does not fit this DiT ({cut(wrong, 60)}): it was trained on another model")
    for layer, pair in pairs.items():
        weight = state[f"{layer}.weight"]
        state[f"{layer}.weight"] = (weight.float() + strength * pair.delta()).to(weight.dtype)
    meta = {name: value for name, value in checkpoint.meta.items() if name != "few"}
    return replace(checkpoint, dit_state=state, few_state={}, meta=meta)
