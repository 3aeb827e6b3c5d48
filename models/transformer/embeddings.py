"""Embeddings of the noise level, of class labels and of the whole text."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 256


def sinusoidal(values: Tensor, size: int = FREQUENCIES, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding (..., size) of values (...), cosines first, as in DiT (arXiv 2212.09748)."""
    half = size // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values.float()[..., None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class NoiseLevelEmbedder(nn.Module):
    """Sigma in [0, 1], any shape (...), to vectors (..., D)."""

    def __init__(self, hidden_size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.linear1 = operations.Linear(FREQUENCIES, hidden_size, **factory)
        self.linear2 = operations.Linear(hidden_size, hidden_size, **factory)

    def forward(self, sigma: Tensor, dtype: torch.dtype) -> Tensor:
        embedded: Tensor = self.linear2(F.silu(self.linear1(sinusoidal(sigma * 1000.0).to(dtype))))
        return embedded


def masked_mean(context: Tensor, mask: Tensor | None) -> Tensor:
    """Mean text feature (B, E) of context (B, L, E) over the tokens that mask (B, L) marks as real."""
    if mask is None:
        return context.mean(dim=1)
    weights = mask.to(context.dtype)[..., None]
    return (context * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
