"""Extend a clip past a model's own length: window by window, handing over latents, never decoding in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from .along_time import extend
from .canvas import Canvas, join
from .statistics import match_statistics, statistics
from .track import Track

# (what a window knows, its number) -> the same with all its latents, or these alone where there is no sound
Generate = Callable[[Canvas, int], Tensor | Canvas]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How to go: `window` latents at a time, of which `context` are known from before.

    anchor  how far each new piece is brought back to the source's mean and deviation per channel, 0 to 1: small
            errors of colour and contrast would otherwise be handed on and grow
    """

    window: int
    context: int
    anchor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.context < self.window:
            raise ValueError(
                f"windows of {self.window} latents with {self.context} known ones: 1 must be known and 1 new at least"
            )
        if not 0 <= self.anchor <= 1:
            raise ValueError(f"the anchor is {self.anchor}: it must lie between 0 and 1")

    def count(self, more: int, *, backward: bool = False) -> int:
        """How many windows `more` latents take; backward, each renews the first latent that was there.

        For clips whose first latent is as long as later ones backward is False: none is renewed.
        """
        return -(-more // (self.window - self.context - backward))


@dataclass(frozen=True)
class Extended:
    """The whole video, and how far each new piece had drifted from the source before it was brought back."""

    video: Canvas
    drift: tuple[float, ...]  # per window: root mean square change of the channels' means, in deviations

    @property
    def latents(self) -> Tensor:
        """The picture, (B, C, T, H, W)."""
        return self.video.latents

    @property
    def sound(self) -> Track | None:
        """The sound, where the clip has one."""
        return self.video.sound


def extend_far(
    clip: Tensor | Canvas,
    more: int,
    windows: Windows,
    generate: Generate,
    *,
    backward: bool = False,
    enough: Callable[[], bool] = lambda: False,
) -> Extended:
    """A clip (B, C, T, H, W) with `more` latents after it, or before it. Windows do not grow with the length.

    Sound goes along at the same times. Clips of a rhythm of several latents are extended in whole rounds of it.
    enough: asked after each window whether to end there.
    """
    given = Canvas.of(clip).made()
    renewed = int(backward and given.first_is_single)
    if more < 1:
        raise ValueError(f"extend by {more} latents: it must be 1 or more")
    if given.length < windows.context + renewed:
        raise ValueError(
            f"the clip has {given.length} latents, the context wants {windows.context + renewed}: shorten the context"
        )
    if windows.window - windows.context <= renewed:
        raise ValueError("backward, a window must have room for at least 2 new latents: shorten the context")
    mean, std = statistics(given.latents)
    drift: list[float] = []
    parts, target = [given], given.length + more
    while True:
        video = join(parts, finished=True)
        left = target - video.length
        if left <= 0 or (drift and enough()):
            return Extended(video, tuple(drift))
        room = min(windows.window - windows.context, left + renewed)
        if backward:
            canvas = extend(video.part(0, windows.context + renewed), before=room)
        else:
            canvas = extend(video.part(-windows.context, None), after=room)
        piece = _filled(canvas, generate(canvas, len(drift)))
        new = piece.part(0, room) if backward else piece.part(-room, None)
        drift.append(float(((statistics(new.latents)[0] - mean) / std.clamp(min=1e-6)).square().mean().sqrt()))
        new = replace(new, latents=match_statistics(new.latents, mean, std, windows.anchor)).made()
        parts = [new, parts[0].part(renewed, None), *parts[1:]] if backward else [*parts, new]


def _filled(canvas: Canvas, made: Tensor | Canvas) -> Canvas:
    """What was made of a canvas, as one; latents alone are its picture."""
    return made if isinstance(made, Canvas) else replace(canvas, latents=made)
