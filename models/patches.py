"""Spacetime patches: the one data structure that every stage shares.

A latent (B, C, T, H, W) is cut into patches of pt x ph x pw latents; each becomes a token. Order inside a token is
patch position first, channel last (as in DiT, Latte and Wan); tokens run frame by frame, row by row.
Several clips of different size can share one sequence (NaViT, arXiv 2307.06304): then `grids` has several entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

Patch = tuple[int, int, int]
DEFAULT_PATCH: Patch = (1, 2, 2)


class Grid(NamedTuple):
    """How many patches a clip has in time, height and width."""

    frames: int
    height: int
    width: int

    @property
    def num_tokens(self) -> int:
        """Patches in all."""
        return self.frames * self.height * self.width

    @classmethod
    def of(cls, latents: Tensor, patch: Patch = DEFAULT_PATCH) -> Grid:
        """The grid of latents (B, C, T, H, W); ValueError when the patch does not divide them."""
        sizes = tuple(latents.shape[-3:])
        if any(size < p or size % p for size, p in zip(sizes, patch, strict=True)):
            raise ValueError(
                f"latents of {sizes[0]} frames x {sizes[1]} x {sizes[2]} cannot be cut into patches of "
                f"{patch[0]} x {patch[1]} x {patch[2]}: make each size a multiple of the patch"
            )
        return cls(*(size // p for size, p in zip(sizes, patch, strict=True)))

    def coordinates(self, device: torch.device | str | None = None) -> Tensor:
        """Position (t, y, x) of each token in patches, float32 (N, 3)."""
        axes = [torch.arange(n, dtype=torch.float32, device=device) for n in self]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


@dataclass(frozen=True)
class Tokens:
    """Patches of one or several clips, with what a denoising run knows about them.

    values     (B, N, P) patches
    grids      one Grid per clip in the sequence, in order
    patch      patch size (pt, ph, pw) in latents
    channels   latent channels C, so P = pt*ph*pw*C
    change     (B, N, pt*ph*pw) how far each place in a patch may change: 1 generate, 0 keep; None means 1 everywhere
    reference  (B, N, P) clean content that kept patches keep; None before a run begins
    trajectory state of a denoising run (noise, sigmas, step, solver history), owned by whoever runs it
    extra      other entries of the latent they were cut from, handed back when it is put together again
    streams    what stands beside it on the same axis of time, as patches of its own: the sound of a clip
    """

    values: Tensor
    grids: tuple[Grid, ...]
    patch: Patch
    channels: int
    change: Tensor | None = None
    reference: Tensor | None = None
    trajectory: Any = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    streams: tuple[Tokens, ...] = ()

    def __post_init__(self) -> None:
        count = sum(grid.num_tokens for grid in self.grids)
        volume = self.patch[0] * self.patch[1] * self.patch[2]
        width = volume * self.channels
        if self.values.ndim != 3 or self.values.shape[1:] != (count, width):
            raise ValueError(
                f"tokens of shape {tuple(self.values.shape)} do not fit grids {list(self.grids)}: "
                f"expected (B, {count}, {width})"
            )
        if self.change is not None and self.change.shape[-2:] != (count, volume):
            raise ValueError(
                f"a change level of shape {tuple(self.change.shape)} does not fit {count} patches of {volume} places: "
                f"expected (B, {count}, {volume})"
            )

    @property
    def coordinates(self) -> Tensor:
        """Position (t, y, x) of each token inside its own clip, (N, 3)."""
        return torch.cat([grid.coordinates(self.values.device) for grid in self.grids])

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each clip in the sequence."""
        return [grid.num_tokens for grid in self.grids]

    @property
    def patch_change(self) -> Tensor | None:
        """Mean change level of each patch, (B, N)."""
        return None if self.change is None else self.change.mean(dim=-1)

    def with_values(self, values: Tensor) -> Tokens:
        """The same tokens with other contents."""
        return replace(self, values=values)


def to_patches(latents: Tensor, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """Cut latents (B, C, T, H, W) into tokens (B, N, P)."""
    pt, ph, pw = patch
    return rearrange(latents, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=pt, ph=ph, pw=pw)


def from_patches(values: Tensor, grid: Grid, patch: Patch = DEFAULT_PATCH) -> Tensor:
    """Lay tokens (B, N, P) of one clip out again as latents (B, C, T, H, W)."""
    (t, h, w), (pt, ph, pw) = grid, patch
    return rearrange(values, "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)", t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


def patchify(latents: Tensor, patch: Patch = DEFAULT_PATCH, mask: Tensor | None = None) -> Tokens:
    """Cut latents (B, C, T, H, W) into Tokens; a mask (B, 1, T, H, W) in [0, 1] becomes their change level."""
    if latents.ndim != 5:
        raise ValueError(f"patchify wants video latents (B, C, T, H, W), got {tuple(latents.shape)}")
    grid = Grid.of(latents, patch)
    if mask is None:
        return Tokens(to_patches(latents, patch), (grid,), patch, latents.shape[1])
    batch = latents.shape[0]
    if mask.ndim != 5 or mask.shape[1:] != (1, *latents.shape[2:]) or mask.shape[0] not in (1, batch):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not cover latents of shape {tuple(latents.shape)}: "
            f"expected ({batch}, 1, {', '.join(map(str, latents.shape[2:]))})"
        )
    change = to_patches(mask.expand(batch, -1, -1, -1, -1), patch)  # (B, N, pt*ph*pw)
    return Tokens(to_patches(latents, patch), (grid,), patch, latents.shape[1], change)


def unpatchify(tokens: Tokens) -> Tensor:
    """The latents (B, C, T, H, W) of Tokens that hold one clip; split() packed ones first."""
    return from_patches(tokens.values, _only_grid(tokens), tokens.patch)


def change_mask(tokens: Tokens) -> Tensor | None:
    """The change level of each latent, (B, 1, T, H, W): patchify's mask again, to the bit."""
    return None if tokens.change is None else from_patches(tokens.change, _only_grid(tokens), tokens.patch)


def _only_grid(tokens: Tokens) -> Grid:
    if len(tokens.grids) != 1:
        raise ValueError(f"these tokens hold {len(tokens.grids)} packed clips: split them before unpatchify")
    return tokens.grids[0]


def pack(clips: Sequence[Tokens]) -> Tokens:
    """Put several clips of equal batch size, patch and channels into one sequence; a run must not have begun."""
    if not clips:
        raise ValueError("pack needs at least one clip")
    first = clips[0]
    for clip in clips:
        if (clip.patch, clip.channels, clip.values.shape[0]) != (first.patch, first.channels, first.values.shape[0]):
            raise ValueError("clips to pack must have the same batch size, patch size and latent channels")
        if clip.streams:
            raise ValueError("clips with sound cannot be packed: leave the sound out with core's Separate AV Latent")
        if clip.trajectory is not None:
            raise ValueError("clips must be packed before forward diffusion, not in the middle of a run")
    volume = first.patch[0] * first.patch[1] * first.patch[2]

    def changes(clip: Tokens) -> Tensor:
        return clip.values.new_ones(*clip.values.shape[:2], volume) if clip.change is None else clip.change

    marked = any(clip.change is not None for clip in clips)
    kept = any(clip.reference is not None for clip in clips)
    return Tokens(
        torch.cat([clip.values for clip in clips], dim=1),
        tuple(grid for clip in clips for grid in clip.grids),
        first.patch,
        first.channels,
        torch.cat([changes(clip) for clip in clips], dim=1) if marked else None,
        torch.cat([clip.values if clip.reference is None else clip.reference for clip in clips], 1) if kept else None,
        extra=first.extra,
    )


def split(tokens: Tokens) -> list[Tokens]:
    """The clips of a packed sequence, each as Tokens of its own (without trajectory)."""
    lengths = tokens.lengths

    def parts(x: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(lengths) if x is None else x.split(lengths, dim=1)

    rows = zip(
        tokens.grids,
        tokens.values.split(lengths, dim=1),
        parts(tokens.change),
        parts(tokens.reference),
        strict=True,
    )
    return [
        Tokens(values, (grid,), tokens.patch, tokens.channels, change, reference, extra=tokens.extra)
        for grid, values, change, reference in rows
    ]
