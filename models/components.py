"""Patches as a picture: the principal components of their values as red, green and blue, and the size of each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SHOWN = 3
ROUNDING = 1e-9  # a share that is no direction, but the rounding of the others
TAILS = 0.02  # of the values at either end, which would leave little contrast for the others


class Components(NamedTuple):
    """The strongest directions in which patches differ, by an orthogonal linear map.

    colours  (N, 3) in 0..1, each component stretched over its range without the outermost 2 percent
    shares   of the variance of all values, that each of the three explains
    """

    colours: Tensor
    shares: tuple[float, ...]


def principal_components(values: Tensor) -> Components:
    """Of patches (N, P). The sign of a component is free: its largest weight is made positive.

    Equal patches have no directions: they are grey, and nothing is explained.
    """
    values = values.detach().cpu().double()
    centred = values - values.mean(dim=0)
    strengths, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    count = min(SHOWN, values.shape[1])
    chosen = directions[:, -count:].flip(-1)  # (P, count), the strongest first
    largest = chosen.gather(0, chosen.abs().argmax(dim=0, keepdim=True))
    projected = centred @ (chosen * largest.sign())  # (N, count)
    whole = strengths.clamp_min(0).sum()
    shares = strengths[-count:].flip(-1).clamp_min(0) / whole if whole > 0 else torch.zeros(count)
    colours = torch.full((len(values), SHOWN), 0.5)
    for index in range(count):
        if shares[index] > ROUNDING:
            colours[:, index] = stretched(projected[:, index])
    return Components(colours, (*shares.tolist(), *[0.0] * (SHOWN - count)))


def stretched(values: Tensor) -> Tensor:
    """Numbers over 0..1, float32, without the tails; one half where they do not differ."""
    low, high = torch.quantile(values, torch.tensor([TAILS, 1 - TAILS], dtype=values.dtype))
    if not high > low:
        return torch.full(values.shape, 0.5)
    return ((values - low) / (high - low)).clamp(0, 1).float()


def sizes(values: Tensor) -> Tensor:
    """Root mean square of each patch (N, P) -> (N,), float32: 1 for unit noise."""
    return values.detach().cpu().float().square().mean(dim=-1).sqrt()
