"""What a task takes and gives: a clip, how far each place of it may change, and whatever else it carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..geometry import Frames
from .track import Track, joined_tracks


@dataclass(frozen=True)
class Canvas:
    """What a run starts from, and what every task makes of another one, so that nothing is lost on the way.

    latents  (B, C, T, H, W) known content, zeros where nothing is known
    change   (B, 1, T, H, W) how far each place may change: 1 generate, 0 keep
    cyclic   the time axis is a circle: after the last latent comes the first
    entries  what else the clip carries, by name; tasks hand it on
    time     which frames its latents stand for, where that is known
    sound    what is heard with it, on the same axis of time
    """

    latents: Tensor
    change: Tensor
    cyclic: bool = False
    entries: Mapping[str, Any] = field(default_factory=dict, repr=False)
    time: Frames | None = None
    sound: Track | None = None

    def __post_init__(self) -> None:
        if self.latents.ndim != 5:
            raise ValueError(f"a task works on video latents (B, C, T, H, W), got {tuple(self.latents.shape)}")
        expected = (self.latents.shape[0], 1, *self.latents.shape[2:])
        if self.change.shape != expected:
            raise ValueError(f"change levels of shape {tuple(self.change.shape)} do not fit: expected {expected}")

    @classmethod
    def of(cls, clip: Tensor | Canvas, level: float = 0.0) -> Canvas:
        """A clip as a canvas; bare latents (B, C, T, H, W) have one change level everywhere: known, unless said."""
        return clip if isinstance(clip, Canvas) else cls(clip, filled(clip, level))

    @property
    def length(self) -> int:
        """Latents in time."""
        return self.latents.shape[2]

    @property
    def first_is_single(self) -> bool:
        """Whether its first latent stands for a single frame as no later one does."""
        return self.time is None or bool(self.time.head)

    def freed(self, change: Tensor) -> Canvas:
        """The same places may change this far too, (B or 1, 1, T, H, W). What was still to be generated stays so."""
        return replace(self, change=torch.maximum(self.change, change.to(self.change)))

    def grown(self, sides: tuple[int, ...]) -> Canvas:
        """With new latents around it, to be generated: (left, right, top, bottom, before, after), or the first four."""
        latents, sound = pad(self.latents, sides), self.sound
        if sound is not None and any(sides[4:]):
            sound = sound.placed(sides[4], latents.shape[2])
        return replace(self, latents=latents, change=pad(self.change, sides, value=1.0), sound=sound)

    def part(self, start: int | None, stop: int | None) -> Canvas:
        """The latents from start to stop in time, as a slice takes them."""
        begin, end, _ = slice(start, stop).indices(self.length)
        sound = None if self.sound is None else self.sound.part(begin, end)
        return replace(self, latents=self.latents[:, :, begin:end], change=self.change[:, :, begin:end], sound=sound)

    def sound_freed(self, level: float, start: int, stop: int) -> Canvas:
        """Its sound may change this far from one latent of the picture to another."""
        return self if self.sound is None else replace(self, sound=self.sound.freed(level, start, stop))

    def sound_freed_with(self, region: Tensor) -> Canvas:
        """Its sound is generated wherever any place of a region (B or 1, 1, T, H, W) of the picture is."""
        canvas = self
        for latent, touched in enumerate((region > 0).flatten(3).any(dim=3).any(dim=0)[0].tolist()):
            if touched:
                canvas = canvas.sound_freed(1.0, latent, latent + 1)
        return canvas

    def made(self) -> Canvas:
        """The same with nothing left to be generated."""
        sound = self.sound
        if sound is not None:
            sound = replace(sound, change=torch.zeros_like(sound.change))
        return replace(self, change=torch.zeros_like(self.change), sound=sound)

    def closed(self) -> Canvas:
        """Its time as a circle."""
        sound = None if self.sound is None else self.sound.placed(0, self.length, cyclic=True)
        return replace(self, cyclic=True, sound=sound)


def join(parts: Sequence[Canvas], *, finished: bool = False) -> Canvas:
    """Parts that follow each other in time, with the entries of all. ValueError where their entries contradict.

    finished: nothing of them is to be generated any more.
    """
    entries: Mapping[str, Any] = {}
    for part in parts:
        entries = merged(entries, part.entries)
    return Canvas(
        torch.cat([part.latents for part in parts], dim=2),
        torch.cat([part.change.to(parts[0].change) for part in parts], dim=2),
        entries=entries,
        time=parts[0].time,
        sound=joined_tracks([part.sound for part in parts], [part.length for part in parts], finished=finished),
    )


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of two clips that become one. ValueError for an entry that both have and that differs."""
    for name in first.keys() & second.keys():
        if not _equal(first[name], second[name]):
            raise ValueError(
                f"both clips carry an entry {name!r} and the two differ, so one clip made of both cannot carry it: "
                "let the node that writes it come after this one"
            )
    return {**first, **second}


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    try:
        return one is other or bool(one == other)
    except (RuntimeError, ValueError):  # tensors and arrays inside of it
        return False


def check_open(clip: Canvas, task: str) -> None:
    """ValueError for a circle: it has no ends."""
    if clip.cyclic:
        raise ValueError(f"this clip is a loop and has no end to {task}: do that first and Loop Video after it")


def without_first(clip: Canvas, task: str) -> Canvas:
    """A clip without the latent of its first frame, where that can only stand at the beginning of a video."""
    if not clip.first_is_single:
        return clip
    if clip.length < 2:
        raise ValueError(
            f"a clip of {clip.length} latents is too short to {task}: its first latent "
            "stands for a single frame and is left out, so it needs at least 2 (5 frames)"
        )
    return clip.part(1, None)


def filled(latents: Tensor, level: float) -> Tensor:
    """One change level for all places of latents (B, C, T, H, W): (B, 1, T, H, W)."""
    if latents.ndim != 5:
        raise ValueError(f"a task works on video latents (B, C, T, H, W), got {tuple(latents.shape)}")
    return latents.new_full((latents.shape[0], 1, *latents.shape[2:]), level)


def check_share(value: float, what: str) -> None:
    """ValueError unless the value lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{what} is {value}: it must lie between 0 and 1")


def check_same_size(first: Tensor, second: Tensor) -> None:
    """ValueError unless two clips differ in length at most."""
    a, b = tuple(first.shape), tuple(second.shape)
    if a[:2] != b[:2] or a[3:] != b[3:]:
        raise ValueError(
            f"clips of {a[-1]} x {a[-2]} and {b[-1]} x {b[-2]} latents ({a[0]} and {b[0]} in the batch, {a[1]} and "
            f"{b[1]} channels) cannot be connected: make the videos the same size and use the same VAE"
        )


def check_loop(num_latents: int) -> None:
    """ValueError for a loop that cannot move."""
    if num_latents < 2:
        raise ValueError(f"a loop of {num_latents} latent has nothing that moves: use 2 or more")
