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

    def __init__(
        self, max_norm: float = 1.0, deviations: float = 0.0, device: torch.device | str | None = None
    ) -> None:
        if not 0 <= deviations < float("inf"):
            raise ValueError(f"gradients cut at {deviations} deviations: --clip-deviations is 0 (off) or more")
        self.max_norm, self.deviations = max_norm, deviations
        # where the gradients are, so that nothing waits; fp32 between steps, so that a checkpoint holds exactly what
        # the next step reads
        self.recent = torch.zeros(3, device=device)

    def factor(self, norm: Tensor) -> Tensor:
        """What to multiply a gradient of this norm, a finite scalar, by: a scalar of 1 at most. Takes the norm in."""
        norm = norm.to(torch.float64 if norm.device.type == "cpu" else torch.float32)  # not every GPU has float64
        if not self.deviations:
            return (self.max_norm / (norm + 1e-6)).clamp(max=1)
        count, mean, variance = self.recent.to(norm).unbind()
        usual = (mean + self.deviations * variance.sqrt()).clamp(max=self.max_norm)
        limit = torch.where(count >= FEWEST, usual, self.max_norm)
        factor = (limit / (norm + 1e-6)).clamp(max=1)
        weight, off = (1 / (count + 1)).clamp(min=NEWEST), norm * factor - mean
        variance = (1 - weight) * (variance + weight * off**2)
        self.recent.copy_(torch.stack([count + 1, mean + weight * off, variance]))
        return factor

    def state(self) -> dict[str, Tensor]:
        """The statistic, where it is used."""
        return {"clip.recent": self.recent} if self.deviations else {}
