"""Prompts in time and space: which text each place of a video answers to, and how strongly it is guided.

A line of text is a key: `1.5: a blue ball` holds from 1.5 s on until the next line, `1-2.5: a blue ball` in that range.
Places have shares in texts, which add up to 1: one text alone, or two where one fades into the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..geometry import Frames
from ..remedies import cut

NUMBER = r"\d{1,5}(?:\.\d{1,6})?"
KEY = re.compile(rf"\s*({NUMBER})\s*s?\s*(?:-\s*({NUMBER})\s*s?\s*)?:\s*(.*\S)\s*")
MOST = 64  # keys
BASE = ""  # the text of places for which there is no key: there holds what was said before


@dataclass(frozen=True)
class Clock:
    """The times of a video's latents: so many, and which frames each stands for. cyclic: time is a circle."""

    length: int
    fps: float
    time: Frames
    cyclic: bool = False

    @property
    def seconds(self) -> float:
        """How long the video lasts."""
        return self.time.count(self.length, cyclic=self.cyclic) / self.fps

    @property
    def middles(self) -> Tensor:
        """The time in the middle of each latent, in seconds, (T,)."""
        counts = [self.time.count(latents, cyclic=self.cyclic) for latents in range(self.length + 1)]
        edges = torch.tensor(counts, dtype=torch.float64)
        return (edges[:-1] + edges[1:]) / 2 / self.fps

    def of_sound(self, length: int, rate: float) -> Clock:
        """The times of the latents of its sound, so many, of which there are `rate` a second."""
        return Clock(length, rate, Frames.every(1), self.cyclic)


@dataclass(frozen=True)
class Key:
    """A value from `start` on, in seconds, until `end`, or until the next key where that is None."""

    start: float
    end: float | None
    value: str

    def __str__(self) -> str:
        return f"{self.start:g}{'' if self.end is None else f'-{self.end:g}'}: {cut(self.value, 40)}"


def parse_keys(text: str, what: str) -> list[Key]:
    """One key per line that is not empty, in order of time. ValueError for anything else, which says what a line is.

    what: an example of a value, for the error.
    """
    keys: list[Key] = []
    for line in filter(str.strip, text.splitlines()):
        found = KEY.fullmatch(line)
        if found is None:
            raise ValueError(
                f'"{cut(line.strip(), 60)}" is not a time and a value: write lines such as `1.5: {what}` (from 1.5 s '
                f"on) or `1-2.5: {what}`"
            )
        start, end = float(found[1]), None if found[2] is None else float(found[2])
        key = Key(start, end, found[3])
        if end is not None and end <= start:
            raise ValueError(f"`{key}` ends before it begins: write the earlier time first")
        if keys and (start <= keys[-1].start or start < (keys[-1].end or 0.0)):
            raise ValueError(
                f"`{key}` begins before `{keys[-1]}` is over: write lines in order of time, without overlap"
            )
        keys.append(key)
    if not keys:
        raise ValueError(f"there is no line: write at least one, such as `0: {what}`")
    if len(keys) > MOST:
        raise ValueError(f"{len(keys)} lines: use {MOST} at most")
    return keys


def covered(keys: Sequence[Key], clock: Clock, *, gaps: bool) -> list[Key]:
    """Keys that all end, without a gap from 0 to the end of the video; what is between them is a key of BASE.

    ValueError for keys beyond the video, for those too short to hold a latent, and, unless `gaps`, for time between.
    """
    seconds, frame = clock.seconds, 1 / clock.fps
    segments: list[Key] = []
    for index, key in enumerate(keys):
        following = keys[index + 1].start if index + 1 < len(keys) else seconds
        end = following if key.end is None else key.end
        if key.start >= seconds or end > seconds + frame:
            raise ValueError(f"`{key}` lies beyond the video, which ends at {seconds:.4g} s: choose earlier times")
        here = replace(key, end=min(end, seconds))
        if not _held(here, clock).any():
            raise ValueError(
                f"`{here}` holds for {end - key.start:.3g} s, in which no latent has its middle, so it would not be "
                f"seen: make it longer than {clock.time.usual / clock.fps:.3g} s"
            )
        segments += [*_gap(segments[-1].end or 0.0 if segments else 0.0, key.start, clock), here]
    segments += _gap(segments[-1].end or 0.0, seconds, clock)
    for segment in segments:
        if segment.value == BASE and not gaps:
            raise ValueError(
                f"nothing is said for {segment.start:g} to {segment.end:.4g} s: let the lines meet, or connect `base`, "
                "which holds wherever these prompts do not"
            )
    return segments


def _held(key: Key, clock: Clock) -> Tensor:
    end = clock.seconds if key.end is None else key.end
    return (clock.middles >= key.start) & (clock.middles < end)


def _gap(start: float, end: float, clock: Clock) -> list[Key]:
    """What lies between two keys; nothing where no latent has its middle there, so that they meet."""
    gap = Key(start, end, BASE)
    return [gap] if bool(_held(gap, clock).any()) else []


def shares_over_time(segments: Sequence[Key], clock: Clock, fade: float) -> dict[str, Tensor]:
    """The share of each text in each latent, (T,) float32, by text; BASE is what holds in gaps. They add up to 1.

    fade: seconds that it takes from one to the next, half of them before the turn. 0: a latent has one text, that which
    holds in its middle.
    """
    if fade < 0:
        raise ValueError(f"a fade of {fade:g} s: it must be 0 or longer")
    return shares_at(_around(segments, clock.seconds) if clock.cyclic else segments, clock.middles, fade)


def shares_at(segments: Iterable[Key], middles: Tensor, fade: float) -> dict[str, Tensor]:
    """The same at any times (T,), in seconds, where segments follow each other; the first one also holds before it."""
    following = list(segments)
    # how far each segment has come in; they follow each other, so what has come in last is what is there
    come = [torch.ones(len(middles), dtype=torch.float64)]
    come += [_ramp(middles, segment.start, fade) for segment in following[1:]]
    come.append(torch.zeros_like(come[0]))
    shares: dict[str, Tensor] = {}
    for segment, (inside, after) in zip(following, pairwise(come), strict=True):
        shares[segment.value] = shares.get(segment.value, torch.zeros_like(inside)) + inside - after
    return {value: share.float() for value, share in shares.items()}


def check_endless(keys: Sequence[Key]) -> None:
    """ValueError for keys that leave time without a value in a video that does not end."""
    ending = next((key for key in keys if key.end is not None), None)
    if ending is not None:
        raise ValueError(f"`{ending}` ends, and here each line holds until the next: write `{ending.start:g}: ...`")
    if keys[0].start:
        raise ValueError(f"nothing is said before `{keys[0]}`: begin with a line at 0")


def shares_in(over_time: Mapping[str, Tensor], latents: Tensor, region: Tensor | None = None) -> dict[str, Tensor]:
    """Shares over time as those of the places of latents (B, C, T, H, W): (T, H, W) by text.

    region (1, 1, T, H, W), 1 inside: outside of it holds BASE. ValueError for one that is empty.
    """
    places = torch.ones(latents.shape[2:]) if region is None else region[0, 0].float().cpu()
    if not bool(places.any()):
        raise ValueError("the mask is empty, so these prompts hold nowhere: paint where they do")
    shares = {text: share[:, None, None] * places for text, share in over_time.items()}
    return shares if region is None else {**shares, BASE: shares.get(BASE, torch.zeros(())) + (1 - places)}


def contrasted(shares: Mapping[str, Tensor], contrast: float) -> dict[str, Tensor]:
    """Weights with which the answers to the texts are mixed, so that each place is also led away from the other texts.

    own + contrast * (own - others), the others in equal parts: classifier-free guidance (arXiv 2207.12598) in which the
    prompts of the rest of the video stand in place of no prompt. Shares and weights both add up to 1 in each place;
    weights may be below 0. ValueError for a contrast below 0.
    """
    if contrast < 0:
        raise ValueError(f"the contrast between prompts is {contrast:g}: it must be 0 or more")
    others = len(shares) - 1
    if others < 1:
        return dict(shares)
    return {text: share + contrast * (share - (1 - share) / others) for text, share in shares.items()}


def _around(segments: Sequence[Key], seconds: float) -> Iterator[Key]:
    """The same once before and once after, for a circle."""
    for turn in (-seconds, 0.0, seconds):
        for one in segments:
            yield replace(one, start=one.start + turn)


def _ramp(times: Tensor, middle: float, width: float) -> Tensor:
    if width == 0:
        return (times >= middle).double()
    return ((times - middle) / width + 0.5).clamp(0, 1)


def parse_scales(text: str) -> list[tuple[float, float]]:
    """Keys of numbers, (seconds, scale) each. ValueError for ranges and for what is no number from 0 to 100."""
    scales = []
    for key in parse_keys(text, "4"):
        if key.end is not None or not re.fullmatch(NUMBER, key.value) or float(key.value) > 100:
            raise ValueError(f"`{key}` is no guidance scale at a time: write lines such as `1.5: 4`, with 0 to 100")
        scales.append((key.start, float(key.value)))
    return scales


def scales_over_time(scales: Sequence[tuple[float, float]], clock: Clock) -> Tensor:
    """The guidance scale of each latent, (T,) float32: straight lines between keys, the ends held.

    On a circle the last key leads back to the first.
    """
    times = [time for time, _ in scales]
    if times[-1] >= clock.seconds:
        raise ValueError(f"a scale at {times[-1]:g} s lies beyond the video, which ends at {clock.seconds:.4g} s")
    points = list(scales)
    if clock.cyclic:
        points = [(points[-1][0] - clock.seconds, points[-1][1]), *points, (points[0][0] + clock.seconds, points[0][1])]
    return torch.tensor([_line(points, float(middle)) for middle in clock.middles])


def _line(points: Sequence[tuple[float, float]], time: float) -> float:
    if time <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if time <= right:
            return low + (high - low) * (time - left) / (right - left)
    return points[-1][1]
