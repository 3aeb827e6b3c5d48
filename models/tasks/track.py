"""The sound of a clip on its axis of time: what a task does to latents of picture, done to those of sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..geometry import Frames


@dataclass(frozen=True)
class Track:
    """Sound beside the latents of a picture.

    latents    (B, C, S, F, 1) known content, zeros where nothing is known
    change     (B, 1, S, F, 1) how far each place may change: 1 generate, 0 keep
    per_frame  latents of sound for each frame of picture
    time       which frames the picture's latents stand for
    skipped    how many latents of picture were cut off before it
    """

    latents: Tensor
    change: Tensor
    per_frame: float
    time: Frames
    skipped: int = 0

    def at(self, latent: int, *, cyclic: bool = False) -> int:
        """Where the sound of a latent of picture begins; parts of one clip together are as long as the clip."""
        begin, here = (
            round(self.time.count(self.skipped + more, cyclic=cyclic) * self.per_frame) for more in (0, latent)
        )
        return here - begin

    def part(self, start: int, stop: int) -> Track:
        """The sound of the picture's latents from start to stop."""
        a, b = self.at(start), self.at(stop)
        cut = replace(self, latents=self.latents[:, :, a:b], change=self.change[:, :, a:b])
        return replace(cut, skipped=self.skipped + start)

    def placed(self, before: int, length: int, *, cyclic: bool = False) -> Track:
        """In a clip of `length` latents of picture, beginning at latent `before`; around it sound is to be generated.

        A picture that gets something before it begins anew, so what was cut off there counts no more.
        """
        whole = replace(self, skipped=0) if before else self
        start, total = whole.at(before, cyclic=cyclic), whole.at(length, cyclic=cyclic)
        body = self.fitted(total - start)
        sides = (0, 0, 0, 0, start, 0)
        return replace(whole, latents=pad(body.latents, sides), change=pad(body.change, sides, value=1.0))

    def fitted(self, length: int) -> Track:
        """So many latents of sound: the end left out, or added to be generated."""
        sides = (0, 0, 0, 0, 0, max(0, length - self.latents.shape[2]))
        latents, change = pad(self.latents, sides), pad(self.change, sides, value=1.0)
        return replace(self, latents=latents[:, :, :length], change=change[:, :, :length])

    def held(self, length: int) -> Track:
        """So many latents of sound, the last one repeated where it is shorter."""
        last = [min(place, self.latents.shape[2] - 1) for place in range(length)]
        return replace(self, latents=self.latents[:, :, last], change=self.change[:, :, last])

    def freed(self, change: Tensor | float, start: int = 0, stop: int | None = None) -> Track:
        """May change this far between two latents of picture; what was still to be generated stays so."""
        a, b = self.at(start), None if stop is None else self.at(stop)
        level = self.change.clone()
        level[:, :, a:b] = torch.maximum(level[:, :, a:b], torch.as_tensor(change).to(level))
        return replace(self, change=level)


def heard_beside(region: Tensor, track: Track, *, cyclic: bool = False) -> Tensor:
    """What share of a picture's places lies in a region (B, 1, T, H, W), at each time of its sound: (B, 1, S, F, 1)."""
    share = region.mean(dim=(3, 4), keepdim=True)
    lengths = [track.at(at + 1, cyclic=cyclic) - track.at(at, cyclic=cyclic) for at in range(region.shape[2])]
    at_times = share.repeat_interleave(torch.tensor(lengths, device=share.device), dim=2)
    return at_times.expand(-1, -1, -1, track.latents.shape[3], -1)


def silence(
    picture: Tensor,
    channels: int,
    height: int,
    per_frame: float,
    time: Frames,
    *,
    level: float = 1.0,
    cyclic: bool = False,
) -> Track:
    """A track beside latents (B, C, T, H, W) on which nothing is heard yet, with one change level."""
    empty = Track(picture.new_zeros(0), picture.new_zeros(0), per_frame, time)
    latents = picture.new_zeros(picture.shape[0], channels, empty.at(picture.shape[2], cyclic=cyclic), height, 1)
    return replace(empty, latents=latents, change=torch.full_like(latents[:, :1], level))


def joined_tracks(tracks: Sequence[Track | None], lengths: Sequence[int], *, finished: bool = False) -> Track | None:
    """The sound of clips that follow each other, which have so many latents of picture; none where none has any.

    finished: nothing of them is to be generated any more, so where one is short its last latent is held.
    ValueError where only some have sound.
    """
    there = [track for track in tracks if track is not None]
    if not there:
        return None
    if len(there) < len(tracks):
        raise ValueError("one of the clips carries sound and another none: encode both with audio_vae, or neither")
    first, begin, parts = there[0], 0, []
    for track, length in zip(there, lengths, strict=True):
        fill = track.held if finished else track.fitted
        parts.append(fill(first.at(begin + length) - first.at(begin)))
        begin += length
    return replace(
        first,
        latents=torch.cat([part.latents.to(first.latents) for part in parts], dim=2),
        change=torch.cat([part.change.to(first.change) for part in parts], dim=2),
    )
