"""Causal networks that keep what came before in a cache (Wan and its kin), taken on from piece to piece of a clip.

Core's decode and encode make such a cache for every call. They hand it to the decoder or encoder with the first latent,
or frame, by itself, and then with some at a time: always an even number, but for the last. So a first piece has one
latent more than an even number; later ones have an even number, with one in front that was seen before: for that one
nothing is computed, the cache of the piece before is put in place. Then pieces equal the whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .others import decode_clip

TILED = "there is too little memory for a piece of this clip: use core's VAE Decode (Tiled) or VAE Encode (Tiled)"


def keeps_cache(network: Any, part: str) -> bool:
    """Whether a VAE's network hands a cache to its `encoder` or `decoder`."""
    found = getattr(network, part, None)
    return isinstance(found, nn.Module) and {"feat_cache", "feat_idx"} <= set(
        inspect.signature(type(found).forward).parameters
    )


class Carried:
    """The cache of a part of a network, between pieces of one clip."""

    def __init__(self, part: nn.Module) -> None:
        self._part = part
        self._cache: list[Any] | None = None
        self._nothing: Any = None  # what it gives for no frames

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Core's call for one piece stands in here. ValueError where core takes the piece apart for want of memory."""
        before, starts = self._cache, 0
        original = type(self._part).forward

        def run(x: Tensor, feat_cache: Any = None, feat_idx: Any = None, **more: Any) -> Any:
            nonlocal starts
            begins = feat_cache is not None and all(one is None for one in feat_cache)
            starts += begins
            if starts > 1 or feat_cache is None:
                raise ValueError(TILED)
            if begins and before is not None:
                feat_cache[:] = before
                return list(self._nothing) if isinstance(self._nothing, list) else self._nothing
            self._cache = feat_cache
            made = original(self._part, x, feat_cache, feat_idx, **more)
            if begins:
                self._nothing = [] if isinstance(made, list) else made[:, :, :0]
            return made

        self._part.forward = run
        try:
            yield
        finally:
            del self._part.forward


def decode_carried(vae: Any, clip: Tensor, length: int) -> Iterator[Tensor]:
    """Images of a clip (1, C, T, H, W), `length` latents at a time, an even number."""
    carried = Carried(vae.first_stage_model.decoder)
    for begin, end in pairwise([0, *range(length + 1, clip.shape[2], length), clip.shape[2]]):
        with carried.piece():
            images = decode_clip(vae, clip[:, :, max(0, begin - 1) : end])
        yield images


def encode_carried(vae: Any, pieces: Iterator[Tensor]) -> Tensor:
    """Latents of images (f, H, W, C) in pieces, of an odd number of latents first, then of an even one."""
    carried, last = Carried(vae.first_stage_model.encoder), None
    made: list[Tensor] = []
    for images in pieces:
        shown = images if last is None else torch.cat([last, images])
        with carried.piece():
            made.append(vae.encode(shown[..., :3]))
        last = images[-1:]
    return torch.cat(made, dim=2)
