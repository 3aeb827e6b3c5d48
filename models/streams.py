"""Sound beside picture: how families lay out the latents of their sound, and both as the streams of one clip.

Sound is seen as a picture one column wide, (B, C, T, F, 1): time, then whatever stands at each time. So patches, change
levels and tasks are the same for both; a patch of sound is all that stands at one of its times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SoundLayout:
    """How a family's sound latents lie: channels, what stands at each time, and how many times there are a second.

    time  axis of time in the latents (B, C, ., .) that the family takes
    """

    family: str
    channels: int
    height: int
    time: int
    rate: float

    def seen(self, sound: Tensor) -> Tensor:
        """The family's latents as (B, C, T, F, 1)."""
        return sound.movedim(self.time, 2)[..., None]

    def given(self, seen: Tensor) -> Tensor:
        """Back again, contiguous."""
        return seen[..., 0].movedim(2, self.time).contiguous()

    def length(self, frames: int, fps: float) -> int:
        """Latents of the sound of so many frames."""
        return round(frames / fps * self.rate)

    def patch(self) -> tuple[int, int, int]:
        """One time of the sound, whole."""
        return 1, self.height, 1


# by the channels of picture and sound: mel spectrograms of 16 kHz with a hop of 160, 4 to a latent; 40 a second, stereo
LAYOUTS = {
    (128, 8): SoundLayout("LTX-2", 8, 16, 2, 25.0),
    (24, 32): SoundLayout("MiniMax-H3", 32, 2, 3, 40.0),
}


def layout_of(picture: Tensor, sound: Tensor) -> SoundLayout:
    """The layout of a clip's sound (B, C, ., .) beside its picture (B, C, T, H, W). ValueError for an unknown pair."""
    found = LAYOUTS.get((picture.shape[1], sound.shape[1]))
    if found is None or sound.ndim != 4 or sound.shape[5 - found.time] != found.height:
        known = ", ".join(f"{layout.family} ({p} and {s})" for (p, s), layout in LAYOUTS.items())
        raise ValueError(
            f"latents of {picture.shape[1]} channels with sound of shape {tuple(sound.shape)} are of no family known "
            f"here: picture and sound of {known} channels are"
        )
    return found


def layout_beside(channels: int) -> SoundLayout | None:
    """The layout of the sound that goes with pictures of so many channels, if some family has one."""
    return next((layout for (picture, _), layout in LAYOUTS.items() if picture == channels), None)


def joint(streams: Sequence[Tensor]) -> Tensor:
    """Streams as one tensor (B, 1, N), as core's samplers see them; a single one as it is."""
    if len(streams) == 1:
        return streams[0]
    return torch.cat([stream.reshape(stream.shape[0], 1, -1) for stream in streams], dim=-1)


def apart(together: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """What joint() put together, in streams of these shapes."""
    if len(shapes) == 1:
        return [together]
    sizes = [int(torch.Size(shape[1:]).numel()) for shape in shapes]
    parts = together.split(sizes, dim=-1)
    return [part.reshape(together.shape[0], *shape[1:]) for part, shape in zip(parts, shapes, strict=True)]
