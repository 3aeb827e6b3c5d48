"""STDiT3, the transformer of Open-Sora 1.2 (its report, docs/report_03.md): text to video, with Open-Sora's key names.

Blocks over space and over time in turn, both with attention to the text; queries and keys are normalised, and along
time rotated (arXiv 2104.09864). The time of the flow and the frames per second modulate all blocks (adaLN-single).
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
from .layers import MLP, TimeEmbedder, Transformer, cut_grid, modulated, picture_table

TRAINED_SIDE = 512  # pixels of a square picture at which positions count single patches


@dataclass(frozen=True, kw_only=True)
class OpenSoraConfig:
    """Everything that fixes the weights' shapes and meaning."""

    in_channels: int
    out_channels: int  # twice in_channels; the second half is not used
    hidden_size: int
    depth: int  # pairs of blocks, one over space and one over time
    num_heads: int
    inner_size: int
    patch: int
    context_dim: int
    text_length: int  # tokens of the text that stands for "no text"
    frames: int = 15  # latents in training: 51 frames
    grid: int = 32

    num_classes = 0  # it reads text


class PatchEmbedder3d(nn.Module):
    """Videos (B, C, T, H, W) -> patches of one frame (B, T, N, D); key proj."""

    def __init__(self, config: OpenSoraConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        patch = (1, config.patch, config.patch)
        self.proj = operations.Conv3d(
            config.in_channels, config.hidden_size, kernel_size=patch, stride=patch, **factory
        )

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.proj(x), "b d t h w -> b t (h w) d")


class Caption(nn.Module):
    """Text features -> the blocks' width; keys y_embedding ("no text") and y_proj."""

    y_embedding: Tensor

    def __init__(self, config: OpenSoraConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.register_buffer("y_embedding", torch.empty(config.text_length, config.context_dim, **factory))
        size = config.hidden_size
        self.y_proj = nn.ModuleDict(
            {
                "fc1": operations.Linear(config.context_dim, size, **factory),
                "fc2": operations.Linear(size, size, **factory),
            }
        )

    def forward(self, text: Tensor) -> Tensor:
        out: Tensor = self.y_proj["fc2"](F.gelu(self.y_proj["fc1"](text), approximate="tanh"))
        return out


class NormedAttention(nn.Module):
    """Self-attention with normalised queries and keys; keys qkv, q_norm, k_norm, proj."""

    def __init__(self, config: OpenSoraConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        size, self.num_heads = config.hidden_size, config.num_heads
        self.qkv = operations.Linear(size, 3 * size, **factory)
        self.q_norm, self.k_norm = (operations.RMSNorm(size // config.num_heads, eps=1e-6, **factory) for _ in range(2))
        self.proj = operations.Linear(size, size, **factory)

    def forward(self, x: Tensor, kernel: Kernel, angles: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (three k d) -> three b k n d", three=3, k=self.num_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = rotated(q, angles), rotated(k, angles)
        out: Tensor = self.proj(rearrange(kernel(q, k, v, None), "b k n d -> b n (k d)"))
        return out


class TextAttention(nn.Module):
    """Patches attend to the text; keys q_linear, kv_linear, proj."""

    def __init__(self, config: OpenSoraConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        size, self.num_heads = config.hidden_size, config.num_heads
        self.q_linear = operations.Linear(size, size, **factory)
        self.kv_linear = operations.Linear(size, 2 * size, **factory)
        self.proj = operations.Linear(size, size, **factory)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None, kernel: Kernel) -> Tensor:
        q = rearrange(self.q_linear(x), "b n (k d) -> b k n d", k=self.num_heads)
        k, v = rearrange(self.kv_linear(text), "b l (two k d) -> two b k l d", two=2, k=self.num_heads)
        out: Tensor = self.proj(rearrange(kernel(q, k, v, mask), "b k n d -> b n (k d)"))
        return out


class OpenSoraBlock(nn.Module):
    """Self-attention over space or time, attention to the text, MLP."""

    def __init__(self, config: OpenSoraConfig, operations: Any, *, along_time: bool, **factory: Any) -> None:
        super().__init__()
        self.along_time = along_time
        self.scale_shift_table = nn.Parameter(torch.empty(6, config.hidden_size, **factory))
        self.attn = NormedAttention(config, operations, **factory)
        self.cross_attn = TextAttention(config, operations, **factory)
        self.mlp = MLP(config.hidden_size, config.inner_size, operations, **factory)

    def forward(
        self, x: Tensor, modulation: Tensor, kernel: Kernel, text: Tensor, mask: Tensor | None, angles: Tensor
    ) -> Tensor:
        """x (B, T, N, D), modulation (B, 6, D), text (B, L, D), mask (B, 1, 1, L), angles (T, head_dim / 2)."""
        batch, frames = x.shape[:2]
        parts = (self.scale_shift_table.to(modulation) + modulation)[:, :, None, None].unbind(1)  # each (B, 1, 1, D)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        seen = modulated(x, shift, scale)
        if self.along_time:
            attended = self.attn(rearrange(seen, "b t n d -> (b n) t d"), kernel, angles)
            x = x + gate * rearrange(attended, "(b n) t d -> b t n d", b=batch)
        else:
            attended = self.attn(rearrange(seen, "b t n d -> (b t) n d"), kernel)
            x = x + gate * rearrange(attended, "(b t) n d -> b t n d", b=batch)
        read = self.cross_attn(rearrange(x, "b t n d -> b (t n) d"), text, mask, kernel)
        x = x + rearrange(read, "b (t n) d -> b t n d", t=frames)
        return x + mlp_gate * self.mlp(modulated(x, mlp_shift, mlp_scale))


class OpenSoraHead(nn.Module):
    """Shifted, scaled, then linear; keys linear and scale_shift_table."""

    def __init__(self, config: OpenSoraConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.scale_shift_table = nn.Parameter(torch.empty(2, size, **factory))
        self.linear = operations.Linear(size, config.patch**2 * config.out_channels, **factory)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table.to(time) + time[:, None])[:, :, None, None].unbind(1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


class OpenSoraTransformer(Transformer):
    """Noisy latents, time and text -> the model's answer, all of its output channels."""

    config: OpenSoraConfig

    def build(self, config: OpenSoraConfig, operations: Any, **factory: Any) -> None:
        """Its layers, under their published names."""
        size = config.hidden_size
        self.rope = nn.ParameterDict({"freqs": torch.empty(size // config.num_heads // 2, **factory)})
        self.x_embedder = PatchEmbedder3d(config, operations, **factory)
        self.t_embedder, self.fps_embedder = (TimeEmbedder(size, operations, **factory) for _ in range(2))
        self.t_block = nn.Sequential(nn.SiLU(), operations.Linear(size, 6 * size, **factory))
        self.y_embedder = Caption(config, operations, **factory)
        self.spatial_blocks, self.temporal_blocks = (
            nn.ModuleList(
                OpenSoraBlock(config, operations, along_time=along_time, **factory) for _ in range(config.depth)
            )
            for along_time in (False, True)
        )
        self.final_layer = OpenSoraHead(config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        fps: Tensor | None = None,
        *,
        attention: Kernel = sdpa,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        """x (B, C, T, H, W), t (B,), context (B, L, E), mask (B, L) bool, fps (B,) or None: 24 -> (B, 2C, T, H, W)."""
        config, (_, _, frames, height, width) = self.config, x.shape
        rows, columns = cut_grid(height, width, config.patch)
        scale = 8 * (height * width) ** 0.5 / TRAINED_SIDE
        places = picture_table(rows, columns, config.hidden_size, known=round((rows * columns) ** 0.5), scale=scale)
        patches = self.x_embedder(x)
        patches = patches + places.to(patches)
        rate = torch.full_like(t, 24.0) if fps is None else fps
        time = self.t_embedder(t, x.dtype) + self.fps_embedder(rate, x.dtype)  # (B, D)
        modulation = self.t_block(time).unflatten(-1, (6, -1))
        text = self.y_embedder(context)
        visible = None if mask is None else mask[:, None, None]
        moments = torch.arange(frames, device=x.device, dtype=torch.float32)
        angles = moments[:, None] * self.rope["freqs"].to(moments)
        blocks = zip(self.spatial_blocks, self.temporal_blocks, strict=True)
        for index, block in enumerate(block for pair in blocks for block in pair):
            run = block_runner(block, index, 2 * config.depth, transformer_options)
            patches = run(patches, modulation, attention, text, visible, angles)
        values = self.final_layer(patches, time)
        return rearrange(
            values, "b t (h w) (p q c) -> b c t (h p) (w q)", h=rows, w=columns, p=config.patch, q=config.patch
        )


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Pairs of neighbouring numbers of x (B, K, T, D) turned by angles (T, D / 2), in float32."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2).to(x)
