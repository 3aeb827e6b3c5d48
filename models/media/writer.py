"""The one writer: frames into an H.264 mp4 as they come, with a sound beside them where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import replacing
from .errors import in_words
from .sound import Sound, Track

CRF = 14  # of H.264: 0 loses nothing, 51 is the worst
BT709 = 1  # matrix, primaries and transfer, as files name them
LIMITED = 1
FINEST = 1001  # of a rate's denominator: 24000/1001 is kept


def rational(fps: float) -> Fraction:
    """Frames per second as containers want it."""
    return Fraction(fps).limit_denominator(FINEST)


@contextmanager
def mp4_writer(path: Path, fps: float, *, crf: int = CRF, sound: Sound | None = None) -> Iterator[Mp4]:
    """A file to write frames to. It gets its name when the block has ended well; otherwise nothing is left.

    ValueError, one sentence, for odd sides, for no frames at all, and when it cannot be written; OSError when the file
    cannot take its name.
    """
    with replacing(path) as partial:
        file = Mp4(partial, rational(fps), crf, sound)
        try:
            yield file
            file.finish()
        finally:
            file.close()


class Mp4:
    """An mp4 being written. Colours are BT.709 in limited range, and it says so."""

    def __init__(self, path: Path, fps: Fraction, crf: int, sound: Sound | None) -> None:
        self._path, self._fps, self._crf, self._sound = path, fps, crf, sound
        self._container: Any = None
        self._stream: Any = None
        self._track: Track | None = None
        self._count = 0

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append frames (F, H, W, 3)."""
        import av

        with in_words("the video cannot be written"):
            if self._container is None:
                self._open(frames.shape[2], frames.shape[1])
            for pixels in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                coded = frame.reformat(format="yuv420p", dst_colorspace=BT709)
                coded.colorspace, coded.color_range = BT709, LIMITED
                self._container.mux(self._stream.encode(coded))
                self._count += 1
            if self._track is not None:
                self._track.until(float(self._count / self._fps))

    def _open(self, width: int, height: int) -> None:
        import av

        if width % 2 or height % 2:
            raise ValueError(f"H.264 wants even sides, got {width} x {height}: use the images output instead")
        self._container = av.open(str(self._path), mode="w", format="mp4")
        self._stream = self._container.add_stream("h264", rate=self._fps, options={"crf": str(self._crf)})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        if self._sound is not None:
            self._track = Track(self._container, self._sound)

    def finish(self) -> None:
        """Write what the encoders still hold, and the file's end."""
        if self._container is None:
            raise ValueError("there are no frames to write")
        with in_words("the video cannot be written"):
            self._container.mux(self._stream.encode(None))
            if self._track is not None:
                self._track.finish()
            container, self._container = self._container, None
            container.close()

    def close(self) -> None:
        """Let go of the file, whatever state it is in."""
        if self._container is not None:
            with suppress(Exception):
                self._container.close()
            self._container = None
