"""Representation alignment (REPA, arXiv 2410.06940): an early block is asked to tell what is known of each patch.

A small network maps what comes out of that block to the features, and the cosine between both joins the loss. It is
part of the run, not of the model: what a checkpoint for use holds is the DiT alone. Features are those of a pretrained
encoder, or, of the toy world, the truth (toyworld.truth).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...transformer.dit import DiT

NAME = "aligner"


class Aligner(nn.Module):
    """Two layers from a block's output (B, N, D) to features (B, N, F)."""

    def __init__(self, hidden_size: int, channels: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The features that the block's output tells."""
        told: Tensor = self.out(F.silu(self.hidden(x)))
        return told


def add_aligner(model: DiT, channels: int) -> None:
    """Give a model that is to be trained the network, as a part of it."""
    model.add_module(NAME, Aligner(model.config.hidden_size, channels))


def block_of(model: DiT) -> int:
    """The number of the block whose output is aligned: a third into the model, as in the paper's best."""
    return max(0, round(len(model.blocks) / 3) - 1)


def alignment_loss(model: DiT, x: Tensor, known: Tensor, lengths: Sequence[int] = ()) -> Tensor:
    """1 - cosine between what is told of the block's output (B, N, D) and what is known (B, N, F).

    The mean of each clip, then over clips. lengths: patches of each of several clips packed in a row.
    """
    told = model.get_submodule(NAME)(x)
    apart = 1 - torch.cosine_similarity(told.float(), known.float(), dim=-1, eps=1e-4)  # (B, N)
    if len(lengths) < 2:
        return apart.mean()
    return torch.stack([clip.mean() for clip in apart.split(list(lengths), dim=1)]).mean()


def without(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights without those of the network."""
    return {name: weight for name, weight in weights.items() if not name.startswith(f"{NAME}.")}
