"""A video VAE's latents -> eye -> projector -> prefix of a causal language model, which writes the caption.

The eye is convolutions in space and time, then a small transformer over spacetime patches. The projector merges 2 x 2
neighbours and maps them to the language model's width by two layers (LLaVA-1.5, arXiv 2310.03744; the merging as in
Qwen2-VL, arXiv 2409.12191). The language model is a decoder with rotary positions that sees the prefix and all words
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..headers import Depth, Heads, Ratio, Side, Width, Within, check_fields
from ..patches import Grid, Patch
from ..transfer import sent
from ..transformer.attention import Kernel, SelfAttention, sdpa
from ..transformer.blocks import GatedMLP
from ..transformer.embeddings import sinusoidal
from ..transformer.norms import normed
from ..transformer.rope import rope_table

PLACE = 16  # sinusoidal features of each axis of a patch's place
THETA = 10_000.0  # of the language model's rotary positions (arXiv 2104.09864)


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Everything that fixes the weights' shapes."""

    in_channels: Width  # of the VAE's latents
    patch: tuple[Side, Side, Side]
    window: tuple[Side, Side, Side]  # latents around a patch that its embedding sees, the patch itself in the middle
    merge: Side  # patches on a side that become one token of the prefix
    eye_size: Width
    eye_depth: Depth
    hidden_size: Width  # of the language model
    depth: Depth
    num_heads: Heads
    mlp_ratio: Ratio
    vocabulary: Annotated[int, Within(0, 1_000_000)]  # words and pieces

    def __post_init__(self) -> None:
        check_fields(self)
        for size in (self.eye_size, self.hidden_size):
            if size % self.num_heads or (size // self.num_heads) % 2:
                raise ValueError(f"a width of {size} must split into {self.num_heads} heads of even size")
        if any(w < p or (w - p) % 2 for w, p in zip(self.window, self.patch, strict=True)):
            raise ValueError(f"a window of {self.window} cannot have a patch of {self.patch} in its middle")

    @property
    def margin(self) -> Patch:
        """Latents of the window on each side of its patch."""
        (t, h, w), (pt, ph, pw) = self.window, self.patch
        return (t - pt) // 2, (h - ph) // 2, (w - pw) // 2


def _preset(eye_size: int, eye_depth: int, hidden_size: int, depth: int, num_heads: int) -> CaptionerConfig:
    return CaptionerConfig(
        in_channels=16,
        patch=(1, 2, 2),
        window=(3, 4, 4),
        merge=2,
        eye_size=eye_size,
        eye_depth=eye_depth,
        hidden_size=hidden_size,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=8 / 3,
        vocabulary=0,
    )


PRESETS: dict[str, CaptionerConfig] = {
    "test": _preset(eye_size=32, eye_depth=1, hidden_size=32, depth=1, num_heads=2),
    "toy": _preset(eye_size=128, eye_depth=1, hidden_size=128, depth=2, num_heads=4),
    "small": _preset(eye_size=384, eye_depth=6, hidden_size=384, depth=6, num_heads=6),
    "base": _preset(eye_size=512, eye_depth=8, hidden_size=768, depth=12, num_heads=8),
}


class PlainBlock(nn.Module):
    """Attention and a gated MLP, each before a norm and on a residual stream."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        inner = -(-int(hidden_size * mlp_ratio) // 64) * 64
        self.norm1, self.norm2 = nn.RMSNorm(hidden_size, eps=1e-6), nn.RMSNorm(hidden_size, eps=1e-6)
        self.attn = SelfAttention(hidden_size, num_heads, nn)
        self.mlp = GatedMLP(hidden_size, inner, nn)

    def forward(self, x: Tensor, rope: Tensor, kernel: Kernel) -> Tensor:
        x = x + self.attn(normed(self.norm1, x), rope, kernel, ())
        out: Tensor = x + self.mlp(normed(self.norm2, x))
        return out


class Eye(nn.Module):
    """Latents (B, C, T, H, W) to features (B, N, D) of their patches.

    Two convolutions see each patch with what is around it, also in the frames before and after, so that movement and
    shape need no attention: asked for nothing but left or right, they learn it from as many clips as four blocks of
    attention over single patches, in a fifth of the time. The blocks then relate places that are far apart.
    """

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.head_dim = config.eye_size // config.num_heads
        fine = config.eye_size // 2
        self.surroundings = nn.Conv3d(config.in_channels, fine, 3, padding=1)
        self.patch_embedder = nn.Conv3d(
            fine, config.eye_size, config.window, stride=config.patch, padding=config.margin
        )
        self.place_embedder = nn.Linear(3 * PLACE, config.eye_size)
        self.blocks = nn.ModuleList(
            PlainBlock(config.eye_size, config.num_heads, config.mlp_ratio) for _ in range(config.eye_depth)
        )
        self.norm = nn.RMSNorm(config.eye_size, eps=1e-6)

    def forward(self, latents: Tensor, kernel: Kernel = sdpa) -> Tensor:
        grid = Grid.of(latents, self.patch)
        x = F.gelu(convolved(self.patch_embedder, F.gelu(convolved(self.surroundings, latents))))
        x = x.flatten(2).transpose(1, 2)  # (B, N, D)
        x = x + self.place_embedder(place_features(grid, x.device).to(x.dtype))
        rope = rope_table([grid], self.head_dim, device=x.device)
        for block in self.blocks:
            x = block(x, rope, kernel)
        return normed(self.norm, x)


def convolved(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """A convolution; in fp32 where its gradient is wanted, for on CPUs that of bf16 is wrong at few frames."""
    if x.dtype == torch.float32 or not torch.is_grad_enabled():
        out: Tensor = layer(x)
        return out
    bias = None if layer.bias is None else layer.bias.float()
    wide = F.conv3d(x.float(), layer.weight.float(), bias, layer.stride, layer.padding)
    return wide.to(x.dtype)


def place_features(grid: Grid, device: torch.device | str) -> Tensor:
    """Where each patch lies, (N, 3 PLACE): frames counted from the first, rows and columns as parts of the picture.

    Rotary positions only tell patches how far they are from one another; "on the left" needs a place in the picture.
    """
    size = torch.tensor([1.0, grid.height / 100, grid.width / 100], device=device)
    places = (grid.coordinates(device) + torch.tensor([0.0, 0.5, 0.5], device=device)) / size  # (N, 3)
    return sinusoidal(places, PLACE, 1000.0).flatten(1)


class Projector(nn.Module):
    """Features of patches (B, N, D) to the prefix of the language model, one token for merge x merge patches."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.merge = config.merge
        self.inner = nn.Linear(config.eye_size * config.merge**2, config.hidden_size)
        self.outer = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        merge, (frames, height, width) = self.merge, grid
        x = rearrange(features, "b (t h w) d -> b t h w d", t=frames, h=height, w=width)
        x = F.pad(x, (0, 0, 0, -width % merge, 0, -height % merge))  # an odd last row or column stands alone
        x = rearrange(x, "b t (h p) (w q) d -> b (t h w) (p q d)", p=merge, q=merge)
        out: Tensor = self.outer(F.gelu(self.inner(x)))
        return out


class Decoder(nn.Module):
    """A causal language model over vectors: the prefix first, then words."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.head_dim = config.hidden_size // config.num_heads
        self.words = nn.Embedding(config.vocabulary, config.hidden_size)
        self.blocks = nn.ModuleList(
            PlainBlock(config.hidden_size, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.head = nn.Linear(config.hidden_size, config.vocabulary, bias=False)

    def forward(self, x: Tensor, first: int, kernels: Sequence[Kernel]) -> Tensor:
        """Hidden states (B, N, D) of vectors x that stand at places first, first + 1, ...; one kernel per block."""
        rope = word_rope(first, x.shape[1], self.head_dim, x.device)
        for block, kernel in zip(self.blocks, kernels, strict=True):
            x = block(x, rope, kernel)
        return normed(self.norm, x)


def word_rope(first: int, count: int, head_dim: int, device: torch.device | str) -> Tensor:
    """Cosines and sines (2, count, head_dim / 2) of places in a sequence."""
    pairs = head_dim // 2
    speeds = THETA ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    angles = torch.arange(first, first + count, dtype=torch.float64)[:, None] * speeds
    return sent(torch.stack([angles.cos(), angles.sin()]).float(), device)


def causal_sdpa(q: Tensor, k: Tensor, v: Tensor, _mask: Tensor | None = None) -> Tensor:
    """Each place attends to itself and those before; q may be the last places of k's."""
    count, total = q.shape[2], k.shape[2]
    if count == total:
        return F.scaled_dot_product_attention(q, k, v, is_causal=count > 1)
    allowed = torch.ones(count, total, dtype=torch.bool, device=q.device).tril(total - count)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)


def causal_matmul(q: Tensor, k: Tensor, v: Tensor, _mask: Tensor | None = None) -> Tensor:
    """causal_sdpa in plain matrix products, faster with gradients on CPUs."""
    count, total = q.shape[2], k.shape[2]
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, K, N, L)
    barred = torch.ones(count, total, dtype=torch.bool, device=q.device).triu(total - count + 1)
    return scores.masked_fill(barred, torch.finfo(scores.dtype).min).softmax(dim=-1) @ v


class CaptionNetwork(nn.Module):
    """Eye, projector and decoder."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        self.eye, self.projector, self.decoder = Eye(config), Projector(config), Decoder(config)

    def initialise(self) -> CaptionNetwork:
        """Fresh weights for training: Xavier matrices; each block starts as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight)  # keeps the size of what goes through, whatever the widths
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, PlainBlock):
                nn.init.zeros_(module.attn.proj.weight)  # a new block hands on what it gets, however deep the stack
                nn.init.zeros_(module.mlp.down.weight)
        nn.init.normal_(self.decoder.words.weight, std=0.5)
        nn.init.normal_(self.decoder.head.weight, std=0.02)  # at first all words are about equally likely
        return self

    def prefix(self, latents: Tensor, kernel: Kernel = sdpa) -> Tensor:
        """Latents (B, C, T, H, W) -> the vectors (B, P, D) that stand before the words."""
        tokens: Tensor = self.projector(self.eye(latents, kernel), Grid.of(latents, self.config.patch))
        # the mean of all in front: what holds for the whole clip (which way, how many) is one look away for every word
        return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)

    def forward(self, prefix: Tensor, ids: Tensor, *, causal: Kernel = causal_sdpa) -> Tensor:
        """Logits (R, L, V) of the word after each of ids (R, L), each row behind its prefix (R, P, D)."""
        x = torch.cat([prefix, self.decoder.words(ids)], dim=1)
        hidden = self.decoder(x, 0, [causal] * self.config.depth)
        out: Tensor = self.decoder.head(hidden[:, prefix.shape[1] :])
        return out


def number_of_weights(network: nn.Module) -> int:
    """Parameters in all."""
    return sum(weight.numel() for weight in network.parameters())
