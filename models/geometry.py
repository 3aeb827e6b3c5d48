"""Seconds, frames, pixels, latents, patches: every step from one to another stands here.

A causal video VAE gives the first frame a latent of its own, so 1 + time * k frames are 1 + k latents. A loop has no
first frame: time * k frames are k latents. What a VAE says of itself is its `Compression`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .remedies import cut


@dataclass(frozen=True)
class Compression:
    """Frames that a latent stands for, and pixels along its side."""

    time: int
    space: int

    @property
    def side(self) -> int:
        """What picture sides must be multiples of, so that they are whole patches of 2 x 2 latents.

        Latents of 32 pixels and more (LTX-Video) are patches themselves.
        """
        return max(16, self.space if self.space >= 32 else 2 * self.space)

    def latents(self, frames: int) -> int:
        """T of F frames, of a clip or a loop; the last latent may be half full."""
        return -(-max(0, frames) // self.time)

    def frames(self, latents: int, *, cyclic: bool = False) -> int:
        """F of T latents."""
        return max(0, latents * self.time - (0 if cyclic else self.time - 1))

    def fits(self, frames: int, *, cyclic: bool = False) -> bool:
        """Whether so many frames are whole latents: 1 + time * k, or time * k for a loop."""
        return frames >= 1 and frames % self.time == (0 if cyclic or self.time == 1 else 1)

    def fitting(self, frames: int) -> int:
        """The most frames of so many that are whole latents."""
        return (frames - 1) // self.time * self.time + 1 if frames > 0 else 0

    def nearest(self, seconds: float, fps: float) -> int:
        """The number of frames nearest to a length of time that are whole latents."""
        return 1 + self.time * max(0, round((seconds * fps - 1) / self.time))

    def nearest_side(self, pixels: int) -> int:
        """The whole patches nearest to a side, in pixels; at least one."""
        return max(self.side, round(pixels / self.side) * self.side)

    def fitting_side(self, pixels: int) -> int:
        """The most pixels of a side that are whole patches; may be 0."""
        return pixels // self.side * self.side

    def latent_shape(self, num_frames: int, height: int, width: int, *, cyclic: bool = False) -> tuple[int, ...]:
        """Latent frames, height and width of a video. ValueError for sizes that are not whole latents and patches."""
        if min(height, width) < self.side or height % self.side or width % self.side:
            raise ValueError(f"a video of {width} x {height} pixels: both sides must be multiples of {self.side}")
        if not self.fits(num_frames, cyclic=cyclic):
            rule = f"a loop has {self.time}k frames" if cyclic else f"a video has 1 + {self.time}k frames"
            raise ValueError(f"{num_frames} frames: {rule}, for example {8 * self.time + (0 if cyclic else 1)}")
        return self.latents(num_frames), height // self.space, width // self.space

    def pixel_size(self, shape: Sequence[int], *, cyclic: bool = False) -> tuple[int, int, int]:
        """Frames, height and width of latents (..., T, H, W)."""
        length, height, width = shape[-3:]
        return self.frames(length, cyclic=cyclic), height * self.space, width * self.space


OURS = Compression(time=4, space=8)  # of this pack's VAE
CHANNELS = 16  # of its latents


def latents_for(seconds: float, fps: float, per_latent: int) -> int:
    """How many latents last so long; at least one for any time above 0."""
    return max(1 if seconds > 0 else 0, round(seconds * fps / per_latent))


def latent_at(seconds: float, fps: float, per_latent: int, *, cyclic: bool = False) -> int:
    """The latent that holds the frame at this time: the first frame has one of its own, except in a loop."""
    frame = round(seconds * fps)
    if cyclic:
        return frame // per_latent
    return 0 if frame <= 0 else 1 + (frame - 1) // per_latent


def frame_of(latent: int, per_latent: int) -> int:
    """The first frame of a latent."""
    return 0 if latent <= 0 else 1 + (latent - 1) * per_latent


@dataclass(frozen=True)
class ClipSize:
    """Pixels and frames of a clip; cyclic clips are loops."""

    width: int
    height: int
    num_frames: int
    cyclic: bool = False

    @classmethod
    def parse(cls, text: str, compression: Compression | None = OURS) -> ClipSize:
        """From "96x96x33" or, for loops, "96x96x32c". ValueError, with the text, for anything else.

        And for a size that is not of whole latents and patches of `compression`; None: any size.
        """
        found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})x([1-9]\d{0,5})(c?)", text.strip())
        if found is None:
            raise ValueError(
                f'clip size "{cut(text, 60)}" is not like 96x96x33 (width x height x frames), c at the end for loops'
            )
        width, height, frames = (int(number) for number in found.groups()[:3])
        size = cls(width, height, frames, bool(found[4]))
        if compression is not None:
            size.check(compression)
        return size

    @classmethod
    def parse_list(cls, text: str) -> tuple[ClipSize, ...]:
        """From one or several sizes, "64x64x17,96x64x17"."""
        return tuple(cls.parse(part) for part in text.split(","))

    def check(self, compression: Compression = OURS) -> None:
        """ValueError unless this size is of whole latents and patches."""
        side, time = compression.side, compression.time
        wrong = self.width % side or self.height % side or not compression.fits(self.num_frames, cyclic=self.cyclic)
        if wrong or min(self.width, self.height) < 1:
            raise ValueError(
                f"clip size {self}: sides must be multiples of {side} and frames {time}k + 1 (loops: {time}k)"
            )

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.num_frames}{'c' if self.cyclic else ''}"


def best_size(sizes: Sequence[ClipSize], width: int, height: int) -> ClipSize:
    """Of some sizes the nearest to a picture in aspect ratio, then in area, and the longest clip of that size."""

    def distance(size: ClipSize) -> tuple[float, float]:
        shape = abs(math.log(size.width / size.height) - math.log(width / height))
        return round(shape, 3), abs(math.log(size.width * size.height) - math.log(width * height))

    nearest = min(sizes, key=distance)
    same = [size for size in sizes if (size.width, size.height) == (nearest.width, nearest.height)]
    return max(same, key=lambda size: size.num_frames)
