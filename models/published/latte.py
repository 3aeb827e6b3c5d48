"""Latte-1 (arXiv 2401.03048), text to video, with the key names of its published file (diffusers' layout).

Blocks over space read the text, blocks over time between them do not. All share one modulation of the time
(adaLN-single, PixArt-alpha, arXiv 2310.00426), to which each adds a table of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..transformer.attention import Kernel, sdpa
from ..transformer.dit import block_runner
from .layers import (
    TIME_WIDTH,
    PatchEmbedder,
    Transformer,
    cut_grid,
    modulated,
    picture_table,
    place_features,
    time_features,
    unfold,
)


@dataclass(frozen=True, kw_only=True)
class LatteConfig:
    """Everything that fixes the weights' shapes and meaning."""

    in_channels: int
    out_channels: int
    hidden_size: int
    depth: int  # pairs of blocks, one over space and one over time
    num_heads: int
    inner_size: int
    patch: int
    grid: int  # patches along a side in training
    context_dim: int
    frames: int = 16  # latent frames in training
    num_classes = 0  # it reads text


class _Projection(nn.Module):
    """Two layers, keys linear_1 and linear_2."""

    def __init__(self, width: int, size: int, activation: nn.Module, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.linear_1 = operations.Linear(width, size, **factory)
        self.linear_2 = operations.Linear(size, size, **factory)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear_2(self.activation(self.linear_1(x)))
        return out


class _TimeModulation(nn.Module):
    """Time (B,) -> its embedding (B, D) and the modulation (B, 6, D) that all blocks share."""

    def __init__(self, size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        embedder = _Projection(TIME_WIDTH, size, nn.SiLU(), operations, **factory)
        self.emb = nn.ModuleDict({"timestep_embedder": embedder})
        self.linear = operations.Linear(size, 6 * size, **factory)

    def forward(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        time = self.emb["timestep_embedder"](time_features(t).to(dtype))
        return time, self.linear(F.silu(time)).unflatten(-1, (6, -1))


class _Attention(nn.Module):
    """Attention with a matrix each for queries, keys and values."""

    def __init__(self, size: int, num_heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q, self.to_k, self.to_v = (operations.Linear(size, size, **factory) for _ in range(3))
        self.to_out = nn.ModuleList([operations.Linear(size, size, **factory)])

    def forward(self, x: Tensor, kernel: Kernel, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        read = x if context is None else context
        q, k, v = (
            rearrange(value, "b n (k d) -> b k n d", k=self.num_heads)
            for value in (self.to_q(x), self.to_k(read), self.to_v(read))
        )
        out: Tensor = self.to_out[0](rearrange(kernel(q, k, v, mask), "b k n d -> b n (k d)"))
        return out


class _FeedForward(nn.Module):
    """Keys net.0.proj and net.2."""

    def __init__(self, size: int, inner: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        first = nn.ModuleDict({"proj": operations.Linear(size, inner, **factory)})
        self.net = nn.ModuleList([first, nn.Identity(), operations.Linear(inner, size, **factory)])

    def forward(self, x: Tensor) -> Tensor:
        first, _, last = self.net
        assert isinstance(first, nn.ModuleDict)
        out: Tensor = last(F.gelu(first["proj"](x), approximate="tanh"))
        return out


class LatteBlock(nn.Module):
    """Self-attention, attention to the text where it reads any, MLP."""

    def __init__(self, config: LatteConfig, operations: Any, *, reads: bool, **factory: Any) -> None:
        super().__init__()
        size, heads = config.hidden_size, config.num_heads
        self.scale_shift_table = nn.Parameter(torch.empty(6, size, **factory))
        self.attn1 = _Attention(size, heads, operations, **factory)
        if reads:
            self.attn2 = _Attention(size, heads, operations, **factory)
        self.ff = _FeedForward(size, config.inner_size, operations, **factory)

    def forward(
        self, x: Tensor, modulation: Tensor, kernel: Kernel, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """x (B, N, D), modulation (B, 6, D), context (B, L, D)."""
        parts = (self.scale_shift_table.to(modulation) + modulation).chunk(6, dim=1)  # each (B, 1, D)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        x = x + gate * self.attn1(modulated(x, shift, scale), kernel)
        if context is not None:
            x = x + self.attn2(x, kernel, context, mask)
        return x + mlp_gate * self.ff(modulated(x, mlp_shift, mlp_scale))


class TextTransformer(Transformer):
    """Noisy latents, time and text -> the model's answer, all of its output channels."""

    config: LatteConfig

    def build(self, config: LatteConfig, operations: Any, **factory: Any) -> None:
        """Its layers, under their published names."""
        size = config.hidden_size
        self.pos_embed = PatchEmbedder(config.patch, config.in_channels, size, operations, **factory)
        self.adaln_single = _TimeModulation(size, operations, **factory)
        gelu = nn.GELU(approximate="tanh")
        self.caption_projection = _Projection(config.context_dim, size, gelu, operations, **factory)
        self.transformer_blocks, self.temporal_transformer_blocks = (
            nn.ModuleList(LatteBlock(config, operations, reads=reads, **factory) for _ in range(config.depth))
            for reads in (True, False)
        )
        self.scale_shift_table = nn.Parameter(torch.empty(2, size, **factory))
        self.proj_out = operations.Linear(size, config.patch**2 * config.out_channels, **factory)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        *,
        attention: Kernel = sdpa,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        """x (B, C, T, H, W), t (B,), context (B, L, E), mask (B, L) bool -> (B, C or 2C, T, H, W)."""
        config, (batch, _, frames, height, width) = self.config, x.shape
        rows, columns = cut_grid(height, width, config.patch)
        known, scale = config.grid, max(config.grid * config.patch // 64, 1)
        places = picture_table(rows, columns, config.hidden_size, known=known, scale=scale)
        patches = self.pos_embed(rearrange(x, "b c t h w -> (b t) c h w"))
        patches = patches + places.to(patches)
        time, modulation = self.adaln_single(t, x.dtype)  # (B, D), (B, 6, D)
        text = self.caption_projection(context).repeat_interleave(frames, dim=0)
        visible = None if mask is None else mask.repeat_interleave(frames, dim=0)[:, None, None]
        over_space = modulation.repeat_interleave(frames, dim=0)
        over_time = modulation.repeat_interleave(rows * columns, dim=0)
        blocks = zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True)
        for index, pair in enumerate(blocks):
            space, along = (
                block_runner(block, 2 * index + i, 2 * config.depth, transformer_options)
                for i, block in enumerate(pair)
            )
            patches = space(patches, over_space, attention, text, visible)
            patches = rearrange(patches, "(b t) n d -> (b n) t d", b=batch)
            if index == 0 and frames > 1:
                patches = patches + place_features(torch.arange(frames), config.hidden_size).to(patches)
            patches = rearrange(along(patches, over_time, attention), "(b n) t d -> (b t) n d", b=batch)
        last = (self.scale_shift_table.to(time) + time[:, None]).repeat_interleave(frames, dim=0)
        values = self.proj_out(modulated(patches, *last.chunk(2, dim=1)))
        return rearrange(unfold(values, rows, columns, config.patch), "(b t) c h w -> b c t h w", b=batch)
