"""Gradient clipping: gradients longer than a constant, or than those of this run have been of late, are shortened.

The constant alone helps little where gradients are far shorter than it. The limit beside it is the running mean of the
norm and so many of its deviations, as in ZClip (Kumar et al. 2025, arXiv 2504.02507, section 3) and Open-Sora Plan 1.5;
it takes in norms as they were cut, so that one spike does not open the door to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST = 25  # norms that must have been seen before they limit the next
NEWEST = 0.03  # weight of the newest norm in the statistic, once it holds enough of them


class GradientClipping:
    """Factors for gradients. `recent` is all it remembers: how many norms it saw, their mean and variance."""

    def __init__(self, max_norm: float = 1.0, deviations: float = 0.0) -> None:
        if not 0 <= deviations < float("inf"):
            raise ValueError(f"gradients cut at {deviations} deviations: --clip-deviations is 0 (off) or more")
        self.max_norm, self.deviations = max_norm, deviations
        # fp32 between steps, so that a checkpoint holds exactly what the next step reads; in the CPU's memory, where
        # the norm is a number already
        self.recent = torch.zeros(3)

    def factor(self, norm: float) -> float:
        """What to multiply a gradient of this finite norm by, 1 at most. Takes the norm in."""
        if not self.deviations:
            return min(1.0, self.max_norm / (norm + 1e-6))
        count, mean, variance = self.recent.tolist()
        usual = mean + self.deviations * variance**0.5
        factor = min(1.0, (min(self.max_norm, usual) if count >= FEWEST else self.max_norm) / (norm + 1e-6))
        weight, off = max(1 / (count + 1), NEWEST), norm * factor - mean
        variance = (1 - weight) * (variance + weight * off**2)
        self.recent.copy_(torch.tensor([count + 1, mean + weight * off, variance]))
        return factor

    def state(self) -> dict[str, Tensor]:
        """The statistic, where it is used."""
        return {"clip.recent": self.recent} if self.deviations else {}
