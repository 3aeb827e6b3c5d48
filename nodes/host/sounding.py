"""Core's latents of picture and sound in one: taken apart into two streams, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import comfy.nested_tensor
import comfy.utils
from torch import Tensor

from ...models.geometry import MINIMAX_H3, Frames
from ...models.streams import SoundLayout, joint, layout_beside, layout_of
from ...models.tasks.canvas import Canvas
from ...models.tasks.track import Track, silence

TOLERATED = 2  # latents of sound by which a clip's sound may be longer or shorter than its picture
TIMES = {"LTX-2": Frames.every(8), "MiniMax-H3": MINIMAX_H3}  # of the picture of each family
FORMATS = {"LTXAV": 128, "MiniMaxH3AV": 24}  # channels of the picture, by core's name of the latent format


def is_nested(value: Any) -> bool:
    """Whether a value of core holds several streams."""
    return bool(getattr(value, "is_nested", False))


def nested_pair(value: Any) -> tuple[Any, Tensor | None]:
    """Picture and sound of samples or of a mask; (value, None) of a single stream. ValueError for more than two."""
    if not is_nested(value):
        return value, None
    streams = value.unbind()
    if len(streams) != 2:
        raise ValueError(f"this latent holds {len(streams)} streams: picture, or picture and sound, are known here")
    return streams[0], streams[1]


def nested(streams: Sequence[Tensor]) -> Any:
    """Core's tensor of several streams; a single one as it is."""
    return streams[0] if len(streams) == 1 else comfy.nested_tensor.NestedTensor(list(streams))


def sound_latents(picture: Tensor, sound: Tensor) -> Tensor:
    """The family's latents of sound as (B, C, T, F, 1)."""
    return layout_of(picture, sound).seen(sound)


def as_nested(picture: Tensor, mask: Tensor | None, sound: Tensor, sound_mask: Tensor | None) -> tuple[Any, Any]:
    """Both streams as core's samples, and both masks, None where there is none. Sound and its mask: (B, ., T, F, 1)."""
    layout = _layout(picture, sound)
    masks = None if mask is None or sound_mask is None else nested([mask, layout.given(sound_mask)])
    return nested([picture, layout.given(sound)]), masks


def _layout(picture: Tensor, sound: Tensor) -> SoundLayout:
    layout = layout_beside(picture.shape[1])
    if layout is None or layout.channels != sound.shape[1]:
        raise ValueError(f"sound of {sound.shape[1]} channels does not go with pictures of {picture.shape[1]}")
    return layout


def at_sound_size(mask: Tensor | None, picture: Tensor, sound: Tensor) -> Tensor:
    """Any mask of sound that core takes, as (B, 1, T, F, 1); None: all of it is to be generated, as core has it."""
    layout = layout_of(picture, sound)
    if mask is None:
        return layout.seen(sound[:, :1].new_ones(sound[:, :1].shape))
    fitted: Tensor = comfy.utils.reshape_mask(mask, (sound.shape[0], 1, *sound.shape[2:]))
    return layout.seen(fitted[:, :1])


def track_of(canvas: Canvas, sound: Tensor, change: Tensor, fps: float | None) -> Canvas:
    """A clip with its sound (B, C, S, F, 1) beside it. ValueError where both last unlike times at these fps.

    fps None: a task that leaves times as they are; sound and picture then go by their lengths.
    """
    layout = _layout(canvas.latents, sound)
    time = canvas.time or TIMES[layout.family]
    frames, length = time.count(canvas.length, cyclic=canvas.cyclic), sound.shape[2]
    if fps is None:
        return replace(canvas, time=time, sound=Track(sound, change, length / frames, time))
    track = Track(sound, change, layout.rate / fps, time)
    expected = track.at(canvas.length, cyclic=canvas.cyclic)
    if abs(expected - length) > TOLERATED:
        raise ValueError(
            f"the sound of this clip lasts {length / layout.rate:.3g} s, its picture {frames / fps:.3g} s at {fps:g} "
            f"frames per second: set fps to that of the clip ({frames * layout.rate / length:.3g})"
        )
    return replace(canvas, time=time, sound=track.placed(0, canvas.length, cyclic=canvas.cyclic))


def with_silence(canvas: Canvas, fps: float) -> Canvas:
    """A clip with sound that is all to be generated. ValueError for a family without sound."""
    layout = layout_beside(canvas.latents.shape[1])
    if layout is None:
        raise ValueError(f"latents of {canvas.latents.shape[1]} channels are of no family with sound")
    time = canvas.time or TIMES[layout.family]
    track = silence(canvas.latents, layout.channels, layout.height, layout.rate / fps, time, cyclic=canvas.cyclic)
    return replace(canvas, time=time, sound=track)


def picture_channels(model: Any) -> int | None:
    """Channels of the picture of a MODEL that makes sound too; None for one of pictures alone."""
    return FORMATS.get(type(model.get_model_object("latent_format")).__name__)


def in_both(
    picture: Tensor, sound: Tensor, seen: Mapping[str, Tensor], heard: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Values of places by name, (T, H, W) of a picture's and (S, F, 1) of its sound's, as core lays both out, (N,)."""
    layout = _layout(picture, sound)

    def both(value: Tensor, beside: Tensor) -> Tensor:
        streams = value.expand(1, picture.shape[1], *value.shape), beside.expand(1, sound.shape[1], *beside.shape)
        return joint([streams[0], layout.given(streams[1])])[0, 0]

    return {name: both(value, heard[name]) for name, value in seen.items()}
