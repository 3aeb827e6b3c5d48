"""Token routing (TREAD, arXiv 2501.04765): in training a random share of the patches goes past some blocks.

These blocks are given the kept patches alone, each with its own position, noise level and text, and after them the
others are put back as they were. So a step is cheaper, and early blocks hear of the loss by a shorter way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..transfer import sent


def blocks_past(depth: int, start: int, end: int) -> range:
    """Blocks `start` to before `end` of so many, as Python counts: below 0 from the last one. ValueError for none."""
    blocks = range(depth)[start:end]
    if not blocks:
        raise ValueError(
            f"from block {start} to before block {end} of {depth} there is none that patches could go past: choose "
            f"--route-start and --route-end between 0 and {depth}, such as {depth // 4} and {-(-depth * 3 // 4)}"
        )
    return blocks


class Row(NamedTuple):
    """What a block is given of the patches."""

    x: Tensor  # (B, N, D)
    modulation: Tensor  # (B, M, 6, D), each of the M for N / M patches in a row
    rope: Tensor  # (2, N, head_dim / 2), or (2, B, 1, N, head_dim / 2) where each clip has positions of its own
    lengths: Sequence[int]  # patches of each clip in a row


class Route(NamedTuple):
    """Which patches are kept, and the blocks that the others go past."""

    blocks: range
    places: Tensor  # (B, n) numbers of the kept patches in their row, rising
    rows: Tensor  # (B * n,) the same in all rows one after the other
    lengths: tuple[int, ...]  # kept patches of each clip in a row

    @classmethod
    def of(cls, blocks: range, kept: Tensor, lengths: Sequence[int], device: torch.device) -> Route:
        """From kept (B, N) bool on the CPU, alike many in each row and, where M < N, of each of the M (`Row`)."""
        places = kept.nonzero()[:, 1].view(len(kept), -1)
        rows = places + torch.arange(len(kept))[:, None] * kept.shape[1]
        counts = tuple(int(part.sum()) for part in kept[0].split(list(lengths)))
        return cls(blocks, sent(places, device), sent(rows.flatten(), device), counts)

    def select(self, tokens: Tensor) -> Tensor:
        """Of tokens (B, N, ...) those that are kept, (B, n, ...)."""
        return tokens.flatten(0, 1).index_select(0, self.rows).unflatten(0, self.places.shape)

    def kept(self, whole: Row) -> Row:
        """What the blocks are given that the other patches go past."""
        per_patch = whole.modulation.shape[1] == whole.x.shape[1]
        return Row(
            self.select(whole.x),
            self.select(whole.modulation) if per_patch else whole.modulation,
            whole.rope[:, self.places].unsqueeze(2),
            self.lengths,
        )

    def put_back(self, whole: Row, kept: Row) -> Row:
        """All patches: those that were kept as they are now, the others as they were."""
        x = whole.x.flatten(0, 1).index_copy(0, self.rows, kept.x.flatten(0, 1))
        return whole._replace(x=x.view_as(whole.x))
