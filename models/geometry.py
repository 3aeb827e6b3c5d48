"""Seconds, frames, pixels, latents, patches: every step from one to another stands here.

A causal video VAE gives the first frame a latent of its own, so 1 + time * k frames are 1 + k latents. A loop has no
first frame: time * k frames are k latents. Which frames the latents of a video stand for is its `Frames`; what a VAE
says of itself is its `Compression`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .remedies import cut

FPS = 12.0  # frames per second of the toy world, and so of the embedded models: what is meant where nothing tells


@dataclass(frozen=True)
class Frames:
    """How many frames each latent of a video stands for: those of `head` first, then those of `rest`, over and over.

    least  the fewest latents of a video; longer ones have whole rounds of `rest` more
    """

    head: tuple[int, ...]
    rest: tuple[int, ...]
    least: int = 1

    @classmethod
    def every(cls, per_latent: int) -> Frames:
        """Of a causal VAE: one frame, then so many for each further latent."""
        return cls((1,), (per_latent,)) if per_latent > 1 else cls((), (1,))

    @property
    def step(self) -> int:
        """Latents by which a video can be longer than another."""
        return len(self.rest)

    @property
    def usual(self) -> float:
        """Frames of a latent on average, the first ones aside."""
        return sum(self.rest) / self.step

    def count(self, latents: int, *, cyclic: bool = False) -> int:
        """Frames of so many latents from the beginning; in a loop there is no beginning."""
        head = () if cyclic else self.head[: max(0, latents)]
        rounds, over = divmod(max(0, latents - len(head)), self.step)
        return sum(head) + rounds * sum(self.rest) + sum(self.rest[:over])

    def fits(self, latents: int, *, cyclic: bool = False) -> bool:
        """Whether a video can have so many latents."""
        least = self.step if cyclic else self.least
        return latents >= least and (latents - least) % self.step == 0

    def holding(self, frame: int, *, cyclic: bool = False) -> int:
        """The latent that holds a frame."""
        head = () if cyclic else self.head
        latent = max(0, (frame - sum(head)) // sum(self.rest)) * self.step
        while self.count(latent + 1, cyclic=cyclic) <= frame:
            latent += 1
        return latent

    def lasting(self, seconds: float, fps: float) -> int:
        """How many latents last so long, in whole rounds; at least one round for any time above 0."""
        return self.step * max(1 if seconds > 0 else 0, round(seconds * fps / sum(self.rest)))

    def gap_after(self, length: int, seconds: float, fps: float) -> int:
        """How many latents of about this time lead from a clip to a next one whose rounds begin with it."""
        return self._in_round(-length % self.step, seconds, fps)

    def overlap_of(self, length: int, seconds: float, fps: float) -> int:
        """How many latents of about this time lie in a clip's end and in the beginning of a next one alike."""
        return self._in_round(length % self.step, seconds, fps)

    def _in_round(self, least: int, seconds: float, fps: float) -> int:
        if self.step == 1:
            return self.lasting(seconds, fps)
        rounds = (seconds * fps / self.usual - least) / self.step
        return least + self.step * max(0 if least else 1, round(rounds))

    def nearest(self, seconds: float, fps: float) -> int:
        """The number of latents of the video whose length is nearest to a time."""
        rounds = (seconds * fps - self.count(self.least)) / sum(self.rest)
        return self.least + self.step * max(0, round(rounds))


MINIMAX_H3 = Frames((), (1, 4, 4, 4, 4), least=2)  # 17 frames are encoded together; a video is 5 + 17 k frames


def frames_of(count: Callable[[int], int]) -> Frames:
    """What a VAE says by its function from latents to frames. ValueError for a rhythm that is not known here."""
    counts = [int(count(latents)) for latents in range(1, 14)]
    steps = {after - before for before, after in pairwise(counts)}
    if len(steps) == 1 and counts[0] == 1 and min(steps) >= 1:
        return Frames.every(steps.pop())
    if all(counts[n - 1] == MINIMAX_H3.count(n) for n in range(1, 14) if MINIMAX_H3.fits(n)):
        return MINIMAX_H3
    raise ValueError(f"this VAE makes {counts} frames of 1 to {len(counts)} latents, a rhythm that is not known here")


@dataclass(frozen=True)
class Compression:
    """Frames that a latent stands for, and pixels along its side.

    rhythm  which frames the latents stand for, where it is another than one frame and then `time` each
    """

    time: int
    space: int
    rhythm: Frames | None = None

    @property
    def grid(self) -> Frames:
        """Which frames the latents stand for."""
        return self.rhythm or Frames.every(self.time)

    @property
    def side(self) -> int:
        """What picture sides must be multiples of, so that they are whole patches of 2 x 2 latents.

        Latents of 32 pixels and more (LTX-Video) are patches themselves.
        """
        return max(16, self.space if self.space >= 32 else 2 * self.space)

    def latents(self, frames: int) -> int:
        """T of F frames, of a clip or a loop; the last latent may be half full."""
        if self.rhythm is None:
            return -(-max(0, frames) // self.time)
        return self.rhythm.holding(frames - 1) + 1 if frames > 0 else 0

    def frames(self, latents: int, *, cyclic: bool = False) -> int:
        """F of T latents."""
        return self.grid.count(latents, cyclic=cyclic)

    def fits(self, frames: int, *, cyclic: bool = False) -> bool:
        """Whether so many frames are whole latents: 1 + time * k, or time * k for a loop."""
        count = self.latents(frames)
        return frames >= 1 and self.grid.fits(count, cyclic=cyclic) and self.frames(count, cyclic=cyclic) == frames

    def fitting(self, frames: int) -> int:
        """The most frames of so many that are whole latents; 0 where they are too few."""
        grid = self.grid
        least, round_of = grid.count(grid.least), sum(grid.rest)
        return least + (frames - least) // round_of * round_of if frames >= least else 0

    def nearest(self, seconds: float, fps: float) -> int:
        """The number of frames nearest to a length of time that are whole latents."""
        return self.frames(self.grid.nearest(seconds, fps))

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
            grid = self.grid
            first, each = (0 if cyclic else grid.count(grid.least)), sum(grid.rest)
            rule = f"a loop has {each}k frames" if cyclic else f"a video has {first} + {each}k frames"
            raise ValueError(f"{num_frames} frames: {rule}, for example {8 * each + first}")
        return self.latents(num_frames), height // self.space, width // self.space

    def pixel_size(self, shape: Sequence[int], *, cyclic: bool = False) -> tuple[int, int, int]:
        """Frames, height and width of latents (..., T, H, W)."""
        length, height, width = shape[-3:]
        return self.frames(length, cyclic=cyclic), height * self.space, width * self.space


OURS = Compression(time=4, space=8)  # of this pack's VAE
CHANNELS = 16  # of its latents


def as_frames(per_latent: int | Frames) -> Frames:
    """Frames of a latent as a number, or said in full."""
    return per_latent if isinstance(per_latent, Frames) else Frames.every(per_latent)


def latents_for(seconds: float, fps: float, per_latent: int | Frames) -> int:
    """How many latents last so long; at least one for any time above 0."""
    return as_frames(per_latent).lasting(seconds, fps)


def latent_at(seconds: float, fps: float, per_latent: int | Frames, *, cyclic: bool = False) -> int:
    """The latent that holds the frame at this time: the first frame has one of its own, except in a loop."""
    return as_frames(per_latent).holding(max(0, round(seconds * fps)), cyclic=cyclic)


def frame_of(latent: int, per_latent: int | Frames, *, cyclic: bool = False) -> int:
    """The first frame of a latent."""
    return as_frames(per_latent).count(latent, cyclic=cyclic)


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
