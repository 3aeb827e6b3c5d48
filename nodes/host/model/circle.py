"""Time rolled round a circle, in the latents of a picture and of the sound beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....models.streams import apart, joint, layout_of


@dataclass(frozen=True)
class Circle:
    """The streams of a run: their shapes, and the axis of time of each."""

    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor, shapes: Sequence[Sequence[int]] | None) -> Circle:
        """Of latents as a model gets them; shapes: of the streams that are packed into them, where they are."""
        if shapes is None or len(shapes) < 2:
            return cls((tuple(x.shape),), (2,))
        streams = apart(x, shapes)
        axes = (2, *(layout_of(streams[0], other).time for other in streams[1:]))
        return cls(tuple(tuple(shape) for shape in shapes), axes)

    @property
    def length(self) -> int:
        """Latents of the picture in time."""
        return self.shapes[0][2]

    def _shift(self, stream: int, shift: int) -> int:
        """The same share of the circle, in latents of a stream."""
        return round(shift * self.shapes[stream][self.axes[stream]] / self.length)

    def rolled(self, x: Tensor, shift: int) -> Tensor:
        """All streams rolled by so many latents of the picture."""
        streams = apart(x, self.shapes)
        return joint([one.roll(self._shift(index, shift), dims=self.axes[index]) for index, one in enumerate(streams)])

    def condition(self, name: str, value: Any, shift: int) -> Any:
        """A condition rolled along with the stream that it belongs to; others as they are."""
        stream = len(self.shapes) - 1 if name.startswith("audio_") else 0
        axis, shape = self.axes[stream], self.shapes[stream]
        along = isinstance(value, Tensor) and value.ndim == len(shape) and value.shape[axis] == shape[axis]
        return value.roll(self._shift(stream, shift), dims=axis) if along else value
