"""What a patch attends to: queries and keys of a model's self-attention, kept block by block, and rows of weights.

The whole matrix of a video is never there: a row of it is computed when somebody asks for one patch, block and head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MOST = 256 * 2**20  # bytes of queries and keys that are kept of one forward pass


class Clip(NamedTuple):
    """Queries (K, N, head_dim) and keys of a clip in a block, float16 on the CPU; there may be fewer heads of keys."""

    queries: Tensor
    keys: Tensor


class Attended:
    """Self-attention of one forward pass over clips of so many patches.

    Blocks are counted as they come. Where all would take more than `most` bytes, every second one is kept, then every
    fourth, and so on.
    """

    def __init__(self, lengths: Sequence[int], most: int = MOST) -> None:
        self.lengths = tuple(lengths)
        self.most = most
        self.seen = 0  # blocks that have gone by
        self.blocks: dict[int, tuple[Clip, ...]] = {}
        self._stride = 1
        self._pending: list[Clip] = []

    def takes(self, queries: int, keys: int) -> bool:
        """Whether attention from so many queries to so many keys is that of the clip that comes next."""
        return queries == keys == self.lengths[len(self._pending)]

    def add(self, queries: Tensor, keys: Tensor) -> None:
        """Keep (K, N, head_dim) of the next clip; a block is complete with its last clip."""
        wanted = self.seen % self._stride == 0
        self._pending.append(Clip(_kept(queries), _kept(keys)) if wanted else Clip(queries[:0], keys[:0]))
        if len(self._pending) < len(self.lengths):
            return
        if wanted:
            self.blocks[self.seen] = tuple(self._pending)
        self.seen += 1
        self._pending = []
        while len(self.blocks) > 1 and self.num_bytes > self.most:
            self._stride *= 2
            self.blocks = {index: block for index, block in self.blocks.items() if index % self._stride == 0}

    @property
    def num_bytes(self) -> int:
        """What is kept."""
        return sum(x.numel() * x.element_size() for block in self.blocks.values() for clip in block for x in clip)

    @property
    def heads(self) -> int:
        """Of a block; 0 where no block was kept."""
        return next(iter(self.blocks.values()))[0].queries.shape[0] if self.blocks else 0

    def row(self, block: int, patch: int, head: int | None = None) -> Tensor:
        """How much a patch attends to each patch, float32 (N,), 1 in all; head None: the mean of all heads.

        Patches of other clips get 0. ValueError for a block, patch or head that is not there.
        """
        for name, value, there in (
            ("block", block, list(self.blocks)),
            ("patch", patch, range(sum(self.lengths))),
            ("head", 0 if head is None else head, range(self.heads)),
        ):
            if value not in there:
                shown = ", ".join(map(str, there)) if isinstance(there, list) else f"0 to {len(there) - 1}"
                raise ValueError(f"{name} is {value}, and there are {shown or 'none'}")
        clip, start = 0, 0
        while patch >= start + self.lengths[clip]:
            start += self.lengths[clip]
            clip += 1
        queries, keys = self.blocks[block][clip]
        weights = torch.zeros(sum(self.lengths))
        weights[start : start + self.lengths[clip]] = _weights(queries[:, patch - start], keys, head)
        return weights


def _kept(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float16, copy=True)


def _weights(query: Tensor, keys: Tensor, head: int | None) -> Tensor:
    """softmax(q k / sqrt(head_dim)) of one query (K, head_dim) and keys (K', N, head_dim) where K' divides K: (N,)."""
    heads = range(len(query)) if head is None else [head]
    shared = len(query) // len(keys)
    rows = [
        (keys[one // shared].float() @ query[one].float() * query.shape[-1] ** -0.5).softmax(dim=-1) for one in heads
    ]
    return torch.stack(rows).mean(dim=0)
