"""Layers of the video VAE. Activations are channel-last (B, T, H, W, C): every norm and temporal layer is then a plain
matrix product over the last axis, and the spatial convolution sees torch's channels_last layout without a copy.

Nothing here looks ahead in time or mixes frames except CausalConv1d, which sees the two frames before. Its memory
lives in a `TimeCache` that the caller owns, so decoding piece by piece equals decoding at once.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Factor = tuple[int, int, int]


class TimeCache:
    """What the causal layers remember between two pieces of one video. A fresh one starts a new video.

    cyclic: the video is a loop that arrives in one piece; the frames before the first are the last ones.
    """

    def __init__(self, *, cyclic: bool = False) -> None:
        self.cyclic = cyclic
        self.tails: dict[nn.Module, Tensor] = {}

    def extend(self, layer: nn.Module, x: Tensor, count: int) -> Tensor:
        """x (B, T, H, W, C) with the `count` frames before it in front; remembers its end for the next piece."""
        if self.cyclic:
            repeats = -(-count // x.shape[1])
            before = x.repeat(1, repeats, 1, 1, 1)[:, -count:]
        else:
            tail = self.tails.get(layer)
            before = x[:, :1].expand(-1, count, -1, -1, -1) if tail is None else tail
        longer = torch.cat([before, x], dim=1)
        if not self.cyclic:
            end = longer[:, -count:]
            # a view would keep the whole piece in memory
            self.tails[layer] = end if x.requires_grad else end.clone()
        return longer


class ChannelNorm(nn.Module):
    """RMS norm over the channels of one position: needs no other frame, so chunks equal the whole."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, eps=1e-6)


class SpatialConv(nn.Conv2d):
    """3 x 3 convolution of each frame, (B, T, H, W, C) -> (B, T, H, W, C')."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        frames = rearrange(x, "b t h w c -> (b t) c h w")
        return rearrange(super().forward(frames), "(b t) c h w -> b t h w c", b=batch)


class CausalConv1d(nn.Linear):
    """Convolution over a frame and the two before it, as one matrix product."""

    reach = 2

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in * (self.reach + 1), channels_out)

    def forward(self, x: Tensor, cache: TimeCache | None = None) -> Tensor:
        frames = x.shape[1]
        longer = (cache or TimeCache()).extend(self, x, self.reach)
        window = torch.cat([longer[:, i : i + frames] for i in range(self.reach + 1)], dim=-1)
        return super().forward(window)


class ResBlock(nn.Module):
    """(2+1)D residual block: 3 x 3 in space, then 3 back in time. The last layer starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.space = SpatialConv(channels, channels)
        self.time = CausalConv1d(channels, channels)
        nn.init.zeros_(self.time.weight)  # a new block hands on what it gets, however deep the stack
        nn.init.zeros_(self.time.bias)

    def forward(self, x: Tensor, cache: TimeCache) -> Tensor:
        hidden = self.space(F.silu(self.norm1(x)))
        return x + self.time(F.silu(self.norm2(hidden)), cache)


def space_to_depth(x: Tensor, factor: Factor) -> Tensor:
    """Move blocks of ft x fh x fw positions into the channels, (B, T, H, W, C) -> (B, T/ft, H/fh, W/fw, ft*fh*fw*C)."""
    ft, fh, fw = factor
    return rearrange(x, "b (t ft) (h fh) (w fw) c -> b t h w (ft fh fw c)", ft=ft, fh=fh, fw=fw)


def depth_to_space(x: Tensor, factor: Factor) -> Tensor:
    """The inverse of space_to_depth."""
    ft, fh, fw = factor
    return rearrange(x, "b t h w (ft fh fw c) -> b (t ft) (h fh) (w fw) c", ft=ft, fh=fh, fw=fw)
