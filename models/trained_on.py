"""Which sizes and lengths of video a model was trained on, and what to expect of others.

A checkpoint's header lists them under meta.trained_on as "WIDTHxHEIGHTxFRAMES", with a c behind for loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .geometry import ClipSize
from .remedies import cut

NEAR = 1.15  # sizes and aspect ratios that differ by less are as good as trained on


@dataclass(frozen=True)
class TrainedOn:
    """Clip sizes (width, height, frames), at least one."""

    sizes: tuple[tuple[int, int, int], ...]

    @classmethod
    def parse(cls, entries: Sequence[str]) -> TrainedOn:
        """From a header's or a command line's entries. ValueError, with the entry, for anything else."""
        known = entries if isinstance(entries, list | tuple) else []
        try:
            found = [ClipSize.parse(str(entry), None) for entry in known]
        except ValueError:
            found = []
        if not found:
            raise ValueError(f"{cut(entries)} are no clip sizes: write them as 96x96x33, or 96x96x32c for loops")
        return cls(tuple(sorted({(size.width, size.height, size.num_frames) for size in found})))

    @property
    def frames(self) -> int:
        """The longest clips."""
        return max(frames for _, _, frames in self.sizes)

    def text(self) -> str:
        """`trained on 64 x 64 and 96 x 96 pixels, up to 33 frames`."""
        pictures = sorted({(width, height) for width, height, _ in self.sizes}, key=lambda size: size[0] * size[1])
        named = [f"{width} x {height}" for width, height in pictures]
        if len(named) > 4:
            listed = f"{len(named)} sizes from {named[0]} to {named[-1]}"
        else:
            listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        return f"trained on {listed} pixels, up to {self.frames} frames"

    def warning(self, width: int, height: int, frames: int) -> str:
        """What to expect of a video of this size and length in one sentence; empty when it is like those of training.

        Pictures are alike when the root of their areas and their aspect ratios differ by less than 15 %.
        """
        faults = []
        if not any(_alike(width, height, *size[:2]) for size in self.sizes):
            faults.append(f"{width} x {height} pixels are unlike its sizes, so shapes may break")
        if frames > self.frames:
            faults.append(
                f"{frames} frames are more than it knows, so motion may repeat or freeze: Extend Far goes on window "
                "by window, Extrapolate Time stretches what it knows"
            )
        return f"this model was {self.text()}; {'; '.join(faults)}" if faults else ""


def _alike(width: int, height: int, other_width: int, other_height: int) -> bool:
    scale = math.sqrt(width * height / (other_width * other_height))
    aspect = width * other_height / (height * other_width)
    return max(scale, 1 / scale, aspect, 1 / aspect) < NEAR
