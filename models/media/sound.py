"""The sound of a video: read as a stream from where the pictures begin, and written along with them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import unreadable

if TYPE_CHECKING:
    from av.container import OutputContainer

Samples = NDArray[np.float32]  # (channels, samples) in -1..1
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # what AAC can carry
PIECE = 16384  # samples of a sound in memory that are handed on at a time


@dataclass(frozen=True)
class Sound:
    """A file's sound from `begin` seconds of its clock on, or samples in memory. rate: samples a second."""

    source: Path | str | io.BytesIO | Samples
    rate: int
    channels: int
    begin: float = 0.0

    @classmethod
    def of_file(cls, source: Path | str | io.BytesIO, begin: float) -> Sound | None:
        """The sound of a video file whose pictures begin at `begin`; None where it has none that can be read."""
        from .container import opened

        with opened(source) as container:
            stream = next((one for one in container.streams.audio if one.codec_context is not None), None)
            with suppress(*unreadable(), StopIteration):
                if stream is not None:
                    first = next(container.decode(stream))
                    return cls(source, int(first.sample_rate), len(first.layout.channels), begin)
        return None

    @classmethod
    def of_samples(cls, samples: Samples, rate: int) -> Sound:
        """Samples (channels, n) in memory."""
        return cls(samples, rate, samples.shape[0])

    def pieces(self, rate: int, layout: str) -> Iterator[Samples]:
        """The samples, resampled and mixed to this layout. A damaged end stops them."""
        from av.audio.frame import AudioFrame
        from av.audio.resampler import AudioResampler

        resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        for samples in self._own():
            kind = LAYOUTS.get(self.channels, f"{self.channels}c")
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=kind)
            frame.sample_rate = self.rate
            for made in resampler.resample(frame):
                yield np.asarray(made.to_ndarray(), np.float32)
        for made in resampler.resample(None):
            yield np.asarray(made.to_ndarray(), np.float32)

    def _own(self) -> Iterator[Samples]:
        if isinstance(self.source, np.ndarray):
            for start in range(0, self.source.shape[1], PIECE):
                yield self.source[:, start : start + PIECE]
            return
        from av.audio.resampler import AudioResampler

        from .container import opened

        plain = AudioResampler(format="fltp")
        place: int | None = None
        with opened(self.source) as container, suppress(*unreadable()):
            stream = next(one for one in container.streams.audio if one.codec_context is not None)
            if self.begin > 2:
                container.seek(int((self.begin - 1) * 1_000_000))
            for decoded in container.decode(stream):
                for frame in plain.resample(decoded):
                    samples = np.asarray(frame.to_ndarray(), np.float32)
                    if place is None:  # where the first sample stands, counted from the first picture
                        place = round(((decoded.time or 0.0) - self.begin) * self.rate)
                        if place > 0:
                            yield np.zeros((self.channels, place), np.float32)
                    if place + samples.shape[1] > 0:
                        yield samples[:, max(0, -place) :]
                    place += samples.shape[1]

    def samples(self, seconds: float) -> Samples:
        """All of it up to a time, in its own rate and channels, silence where it ends before."""
        wanted = round(seconds * self.rate)
        held, count = [], 0
        for piece in self._own():
            held.append(piece)
            count += piece.shape[1]
            if count >= wanted:
                break
        held.append(np.zeros((self.channels, max(0, wanted - count)), np.float32))
        return np.concatenate(held, axis=1)[:, :wanted]


class Track:
    """A sound being written into a container, as far as the pictures have come."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        self._container = container
        self._rate = sound.rate if sound.rate in RATES else 48000
        self._layout = LAYOUTS.get(sound.channels, "stereo")
        self._stream: Any = container.add_stream("aac", rate=self._rate, layout=self._layout)
        self._pieces = sound.pieces(self._rate, self._layout)
        self._rest: Samples | None = None
        self._written = 0

    def until(self, seconds: float) -> None:
        """Write up to a time, counted from the first picture."""
        wanted = round(seconds * self._rate)
        while self._written < wanted:
            piece = self._rest if self._rest is not None else next(self._pieces, None)
            if piece is None:
                return
            now, rest = piece[:, : wanted - self._written], piece[:, wanted - self._written :]
            self._rest = rest if rest.shape[1] else None
            self._write(now)

    def _write(self, samples: Samples) -> None:
        from av.audio.frame import AudioFrame

        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._written
        self._container.mux(self._stream.encode(frame))
        self._written += samples.shape[1]

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))
