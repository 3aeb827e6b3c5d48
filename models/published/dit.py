"""DiT (arXiv 2212.09748), SiT (arXiv 2401.08740) and the class-conditional Latte (arXiv 2401.03048).

One network with Meta's key names: SiT is the same network in other units, and Latte makes every second block attend
along time. Their files differ in the numbers of `ClassConfig` alone.
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
    EPS,
    MLP,
    Attention,
    PatchEmbedder,
    TimeEmbedder,
    Transformer,
    cut_grid,
    modulated,
    picture_table,
    place_features,
    unfold,
)


@dataclass(frozen=True, kw_only=True)
class ClassConfig:
    """Everything that fixes the weights' shapes and meaning."""

    in_channels: int
    out_channels: int  # twice in_channels where the variance is learned too
    hidden_size: int
    depth: int
    num_heads: int
    inner_size: int  # of the MLP
    patch: int
    grid: int  # patches along a side in training
    frames: int  # latent frames in training; 0: an image model
    num_labels: int  # rows of the label table, the last one "no class"; 0: none
    time_shift: int = 0  # see layers.time_features
    mlp_norm_eps: float = EPS  # of the norm before the MLP, 1e-5 in diffusers

    context_dim = 0  # it reads no text

    @property
    def num_classes(self) -> int:
        """Classes that can be asked for."""
        return max(0, self.num_labels - 1)


class Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, config: ClassConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.mlp_norm_eps = config.mlp_norm_eps
        self.attn = Attention(size, config.num_heads, operations, **factory)
        self.mlp = MLP(size, config.inner_size, operations, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(size, 6 * size, **factory))

    def forward(self, x: Tensor, condition: Tensor, kernel: Kernel) -> Tensor:
        """x (B, N, D), condition (B, D)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        x = x + gate * self.attn(modulated(x, shift, scale), kernel)
        return x + mlp_gate * self.mlp(modulated(x, mlp_shift, mlp_scale, self.mlp_norm_eps))


class FinalLayer(nn.Module):
    """Shifted, scaled, then linear."""

    def __init__(self, config: ClassConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.linear = operations.Linear(size, config.patch**2 * config.out_channels, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(size, 2 * size, **factory))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


class LabelEmbedder(nn.Module):
    """Class numbers (B,) -> (B, D)."""

    def __init__(self, rows: int, size: int, **factory: Any) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(rows, size, **factory)

    def forward(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        return F.embedding(labels, self.embedding_table.weight.to(labels.device)).to(dtype)


class ClassTransformer(Transformer):
    """Noisy latents, time and a class -> the model's answer, all of its output channels."""

    config: ClassConfig

    def build(self, config: ClassConfig, operations: Any, **factory: Any) -> None:
        """Its layers, under their published names."""
        size = config.hidden_size
        self.x_embedder = PatchEmbedder(config.patch, config.in_channels, size, operations, **factory)
        self.t_embedder = TimeEmbedder(size, operations, shift=config.time_shift, **factory)
        if config.num_labels:
            self.y_embedder = LabelEmbedder(config.num_labels, size, **factory)
        self.blocks = nn.ModuleList(Block(config, operations, **factory) for _ in range(config.depth))
        self.final_layer = FinalLayer(config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        labels: Tensor | None = None,
        *,
        attention: Kernel = sdpa,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        """x (B, C, T, H, W), t (B,), labels (B,) -> (B, C or 2C, T, H, W).

        ValueError for several frames where the model knows images only.
        """
        config, (batch, _, frames, height, width) = self.config, x.shape
        if frames > 1 and not config.frames:
            raise ValueError(f"this model makes images and got {frames} latent frames: give it a single frame")
        rows, columns = cut_grid(height, width, config.patch)
        places = picture_table(rows, columns, config.hidden_size, known=config.grid)
        patches = self.x_embedder(rearrange(x, "b c t h w -> (b t) c h w"))
        patches = patches + places.to(patches)  # (B T, N, D)
        condition = self.condition(t, labels, x.dtype)  # (B, D)
        for index, block in enumerate(self.blocks):
            run = block_runner(block, index, config.depth, transformer_options)
            if config.frames and index % 2:  # along time
                patches = rearrange(patches, "(b t) n d -> (b n) t d", b=batch)
                if index == 1:
                    moments = place_features(torch.arange(frames), config.hidden_size)
                    patches = patches + moments.to(patches)
                patches = run(patches, condition.repeat_interleave(rows * columns, dim=0), attention)
                patches = rearrange(patches, "(b n) t d -> (b t) n d", b=batch)
            else:
                patches = run(patches, condition.repeat_interleave(frames, dim=0), attention)
        values = self.final_layer(patches, condition.repeat_interleave(frames, dim=0))
        return rearrange(unfold(values, rows, columns, config.patch), "(b t) c h w -> b c t h w", b=batch)

    def condition(self, t: Tensor, labels: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The vector (B, D) of time and class; without labels "no class"."""
        condition: Tensor = self.t_embedder(t, dtype)
        if self.config.num_labels:
            chosen = torch.full_like(t, self.config.num_classes) if labels is None else labels
            condition = condition + self.y_embedder(chosen.long(), dtype)
        return condition
