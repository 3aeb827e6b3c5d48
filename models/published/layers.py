"""What the published transformers share: embeddings of time and place, adaLN blocks, attention with one matrix."""

from __future__ import annotations

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..transformer.attention import Kernel

TIME_WIDTH = 256  # numbers that stand for a time before the embedder's two layers, in all of these models
EPS = 1e-6


def time_features(t: Tensor, width: int = TIME_WIDTH, *, shift: int = 0) -> Tensor:
    """Cosines, then sines of a time (B,) at falling frequencies, (B, width) in float32 (DiT's timestep_embedding).

    shift: 0 as in DiT, SiT and Latte; 1 as diffusers computes it in its DiT, which spreads the frequencies further.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * steps / (half - shift))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def place_features(positions: Tensor, width: int) -> Tensor:
    """Sines, then cosines of positions (N,), (N, width) in float64 (the sin-cos table of MAE and DiT)."""
    half = width // 2
    positions = positions.cpu() if positions.device.type == "mps" else positions  # it knows no float64
    frequencies = 10_000.0 ** -(torch.arange(half, dtype=torch.float64, device=positions.device) / half)
    angles = positions.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def picture_table(height: int, width: int, size: int, *, known: int, scale: float = 1.0) -> Tensor:
    """Positions of height x width patches as features (height * width, size), row by row.

    The first half of the features tells the column, the second the row. known: patches along a side in training, over
    which other sizes are spread, as diffusers does; scale: by which positions are divided besides.
    """
    rows = torch.arange(height) * (known / height) / scale
    columns = torch.arange(width) * (known / width) / scale
    across = place_features(columns, size // 2).repeat(height, 1)
    down = place_features(rows, size // 2).repeat_interleave(width, dim=0)
    return torch.cat([across, down], dim=-1).float()


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float = EPS) -> Tensor:
    """Norm without weights, then scale and shift; x (B, N, D), the others (B, 1, D)."""
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


class Transformer(nn.Module):
    """A published transformer of a config; `operations` makes its layers: torch.nn, or a host's casting layers."""

    def __init__(
        self,
        config: Any,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.build(config, operations, device=device, dtype=dtype)

    def build(self, config: Any, operations: Any, **factory: Any) -> None:
        """Make the layers, under the names that the published file has for them or gets when it is read."""
        raise NotImplementedError


class TimeEmbedder(nn.Module):
    """Time (B,) -> (B, D); keys mlp.0 and mlp.2."""

    def __init__(self, size: int, operations: Any, *, shift: int = 0, **factory: Any) -> None:
        super().__init__()
        self.shift = shift
        self.mlp = nn.Sequential(
            operations.Linear(TIME_WIDTH, size, **factory), nn.SiLU(), operations.Linear(size, size, **factory)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        embedded: Tensor = self.mlp(time_features(t, shift=self.shift).to(dtype))
        return embedded


class PatchEmbedder(nn.Module):
    """A convolution of stride p, as its matrix: pictures (B, C, H, W) -> patches (B, N, D); key proj."""

    def __init__(self, patch: int, channels: int, size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Conv2d(channels, size, kernel_size=patch, stride=patch, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.proj(x), "b d h w -> b (h w) d")


class Attention(nn.Module):
    """Self-attention with queries, keys and values from one matrix; keys qkv and proj."""

    def __init__(self, size: int, num_heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = operations.Linear(size, 3 * size, **factory)
        self.proj = operations.Linear(size, size, **factory)

    def forward(self, x: Tensor, kernel: Kernel) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (three k d) -> three b k n d", three=3, k=self.num_heads)
        out: Tensor = self.proj(rearrange(kernel(q, k, v, None), "b k n d -> b n (k d)"))
        return out


class MLP(nn.Module):
    """Two layers with GELU (tanh form) between them; keys fc1 and fc2."""

    def __init__(self, size: int, inner: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.fc1 = operations.Linear(size, inner, **factory)
        self.fc2 = operations.Linear(inner, size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


def unfold(values: Tensor, height: int, width: int, patch: int) -> Tensor:
    """Patches (B, height * width, p * p * C), place first and channel last -> pictures (B, C, H, W)."""
    return rearrange(values, "b (h w) (p q c) -> b c (h p) (w q)", h=height, w=width, p=patch, q=patch)


def cut_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches in a latent. ValueError where the patch does not divide it."""
    if height % patch or width % patch or not height or not width:
        raise ValueError(
            f"latents of {width} x {height} cannot be cut into patches of {patch} x {patch}: take sides whose pixels "
            f"are multiples of {8 * patch}"
        )
    return height // patch, width // patch
