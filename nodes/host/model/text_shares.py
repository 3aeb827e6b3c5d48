"""How a run of our model learns which of several texts each place of a video answers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.conds
from torch import Tensor

SHARES = "spacetime_shares"  # entry of a conditioning: shares (R, T, H, W) of the places of a video in its texts


@dataclass(frozen=True, eq=False)
class TextShares:
    """Shares (R, T, H, W) of latents in R texts, or a part of them: (start, length) for time, height and width.

    Two are equal where they are the same part of the same tensor, so that none has to be looked at in a step.
    """

    whole: Tensor
    part: tuple[tuple[int, int], ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextShares) and self.whole is other.whole and self.part == other.part

    def __hash__(self) -> int:
        return hash((id(self.whole), self.part))

    @property
    def latents(self) -> Tensor:
        """The shares of this part, (R, T, H, W)."""
        found = self.whole
        for axis, (start, length) in enumerate(self.part, start=1):
            found = found.narrow(axis, start, length)
        return found

    def within(self, part: Sequence[tuple[int, int]]) -> TextShares:
        """Those of a part of this one."""
        outer = [start for start, _ in self.part] or [0] * len(part)
        return TextShares(
            self.whole, tuple((low + start, size) for low, (start, size) in zip(outer, part, strict=True))
        )


class SharesCond(comfy.conds.CONDConstant):
    """Text shares as core hands them on, with core's areas cut out of them."""

    def process_cond(self, batch_size: int, area: Sequence[int] | None = None, **_: Any) -> Any:
        """The shares of an area: sizes, then starts, of the last dimensions. They are the same for a whole batch."""
        del batch_size
        if area is None:
            return self
        sizes, starts = area[: len(area) // 2], area[len(area) // 2 :]
        return self._copy_with(self.cond.within(tuple(zip(starts, sizes, strict=True))))
