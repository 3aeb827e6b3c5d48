"""A video file through PyAV: its frames with the times at which they are shown, and what is wrong with it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hdr
from .colour import Painter, Pixels, Shown
from .errors import reason, unreadable
from .grid import even_rate
from .kinds import CONTAINERS
from .orientation import Orientation

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

Source = Path | str | io.BytesIO
PROBED = 400  # packets whose times tell the rate
LONGEST_HOLD = 600.0  # seconds that one frame may stand; a longer gap is a break in the file's clock
STRETCHED = 16  # pixels that are longer than this in one direction are a fault of the file


@dataclass(frozen=True)
class Picture:
    """A decoded frame, not yet RGB."""

    frame: VideoFrame
    video: VideoFile
    painter: Painter

    def pixels(self, width: int = 0, height: int = 0) -> Pixels:
        """As shown, (H, W, 3), at the video's size or another one."""
        width, height = (width, height) if width else (self.video.width, self.video.height)
        turned = Orientation.of(self.frame)
        stored = self.painter(self.frame, *turned.size(width, height), self.video.transfer, self.video.primaries)
        return turned(stored)


@dataclass
class VideoFile:
    """A file that PyAV opens. ValueError, one sentence, when no picture can be got out of it.

    start, duration: the part that is used, in seconds of the file's own clock; 0 is to the end.
    """

    source: Source
    start: float = 0.0
    duration: float = 0.0
    precise: bool = False
    width: int = 0  # as shown: turned, with square pixels
    height: int = 0
    fps: Fraction = Fraction(25)
    expected: int = 0  # frames at this rate, by the header; only reading tells
    step: float = 0.04
    begin: float = 0.0  # time of the first frame by the file's clock
    transfer: str = ""
    primaries: int = 0
    has_sound: bool = False
    damage: str = ""  # what was wrong with the rest of it, after reading
    changed: float = -1.0  # when its pictures changed their size
    painter: Painter = field(default_factory=Painter)

    def __post_init__(self) -> None:
        with opened(self.source) as container:
            self._look(container)
        with opened(self.source) as container:
            self._measure(container)

    def _look(self, container: InputContainer) -> None:
        """What the first frame and the header say."""
        stream = container.streams.video[0]
        first, fault = None, ""
        try:
            first = next(frame for frame in _decoded(container) if self._inside(frame) == 0)
        except StopIteration:
            fault = "it holds no frames" if not self.start else f"it has no frames after {self.start:g} s"
        except unreadable() as error:
            fault = f"damaged after 0.0 s ({reason(error)})"
        if first is None:
            raise ValueError(fault)
        ratio = float(stream.sample_aspect_ratio or 1) or 1.0
        ratio = ratio if 1 / STRETCHED <= ratio <= STRETCHED else 1.0
        self.width, self.height = Orientation.of(first).size(max(1, round(first.width * ratio)), first.height)
        self.begin = first.time if first.time is not None else 0.0
        context = stream.codec_context
        self.transfer = hdr.TRANSFERS.get(int(getattr(first, "color_trc", context.color_trc) or 0), "")
        self.primaries = int(getattr(first, "color_primaries", context.color_primaries) or 0)
        self.has_sound = bool(container.streams.audio)

    def _measure(self, container: InputContainer) -> None:
        """Rate and length, from the header and the times of the first packets."""
        stream = container.streams.video[0]
        packets = (packet for packet in container.demux(stream) if packet.pts is not None and not packet.is_discard)
        times: list[float] = []
        with suppress(*unreadable()):
            times = [float((packet.pts or 0) * (packet.time_base or 1)) for packet in islice(packets, PROBED)]
        named = stream.average_rate or stream.guessed_rate or None
        self.fps = even_rate(Fraction(named) if named else None, times)
        self.step = 1 / float(self.fps)
        length = self._length(container)
        self.expected = max(1, round(length * float(self.fps))) if length else len(times) or 1
        if stream.frames and not self.start and not self.duration and self.fps == stream.average_rate:
            self.expected = stream.frames

    def _length(self, container: InputContainer) -> float:
        stream = container.streams.video[0]
        if stream.duration:
            whole = float(stream.duration * (stream.time_base or 1))
        else:
            whole = float(container.duration or 0) / 1_000_000
            if "matroska" in container.format.name:  # which tells where it ends by its clock
                whole = max(0.0, whole - max(0.0, self.begin - self.start))
        whole = max(0.0, whole - self.start) if self.start else whole
        return min(whole, self.duration) if self.duration and whole else whole or self.duration

    def _inside(self, frame: VideoFrame) -> int:
        """-1 before the part that is used, 0 in it, 1 after it; as ComfyUI's Load Video cuts."""
        if frame.pts is None or frame.time_base is None:
            return 0
        if self.start and frame.pts < int(self.start / frame.time_base):
            return -1
        return int(bool(self.duration) and frame.pts >= int((self.start + self.duration) / frame.time_base))

    def frames(self, since: float = 0.0) -> Iterator[tuple[float, float, Shown]]:
        """(time, end, picture) in order of time, in seconds from the first frame.

        since: frames long before this moment may be left out. A damaged end stops the frames: `damage` tells then.
        """
        self.painter, self.damage, self.changed = Painter(self.precise), "", -1.0
        size, time = (0, 0), 0.0
        with opened(self.source) as container:
            if self.start or since > 2:
                _seek(container, max(0.0, self.begin + since - 0.5))
            try:
                for begin, time, frame in self._timed(container, since):
                    yield begin, time, Picture(frame, self, self.painter)
                    if self.changed < 0 < size[0] and size != (frame.width, frame.height):
                        self.changed = begin
                    size = frame.width, frame.height
                self._judge_end(container, time)
            except unreadable() as error:
                self.damage = f"damaged after {time:.1f} s ({reason(error)})"

    @property
    def remarks(self) -> list[str]:
        """What people should know of the frames that were read, but for damage."""
        found = []
        if self.transfer:
            found.append(f"its high dynamic range ({self.transfer}) was tone-mapped (BT.2390)")
        if self.changed >= 0:
            found.append(f"its pictures change their size after {self.changed:.1f} s: scaled to the first one's")
        if self.painter.transparent:
            found.append("what is transparent was laid on black")
        return found

    def _timed(self, container: InputContainer, since: float) -> Iterator[tuple[float, float, VideoFrame]]:
        """Decoded frames with times that only grow, whatever the file's clock does."""
        zero, last = self.begin, -self.step
        first = True
        for frame in _decoded(container):
            place = self._inside(frame)
            if place < 0:
                continue
            if place > 0:
                return
            time = last + self.step if frame.time is None else frame.time - zero
            gap = time - last
            if gap <= -1 or (gap > LONGEST_HOLD and not (first and since)):  # its clock was set anew
                zero += time - (last + self.step)
                time = last + self.step
            elif gap <= 0:
                time = last + 1e-6
            length = float(getattr(frame, "duration", 0) or 0) * float(frame.time_base or 0)
            yield time, time + (length if 0 < length <= LONGEST_HOLD else self.step), frame
            last, first = time, False

    def _judge_end(self, container: InputContainer, end: float) -> None:
        length = self._length(container)
        if (container.streams.audio and not container.streams.video[0].duration) or not length:
            return  # the header's length may be that of the sound
        if end < length - max(0.5, 3 * self.step):
            self.damage = f"it ends after {end:.1f} s of {length:.1f} s: it is damaged or was not copied whole"


def _decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """All frames. Damaged packets are passed over as players do, unless nothing comes after them."""
    fault: Exception | None = None
    for packet in container.demux(container.streams.video[0]):
        try:
            frames: list[Any] = packet.decode()
        except unreadable() as error:
            fault = fault or error
            continue
        for frame in frames:
            if packet.size:  # what the decoder still held at the end does not heal the fault
                fault = None
            yield frame
    if fault is not None:
        raise fault


@contextmanager
def opened(source: Source) -> Iterator[InputContainer]:
    """The file as a PyAV container with a video stream. ValueError when it is none."""
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "reading video files needs the package av, which ComfyUI brings along: pip install av"
        ) from error
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        place = source if isinstance(source, io.BytesIO) else str(source)
        container = av.open(place, mode="r", options={"format_whitelist": CONTAINERS})
    except unreadable() as error:
        raise ValueError(f"it is no video that can be read ({reason(error)})") from error
    with container:
        if not container.streams.video:
            raise ValueError("it holds no video, only sound" if container.streams.audio else "it holds no video")
        if container.streams.video[0].codec_context is None:
            raise ValueError("it is no video that can be read (no decoder for it is installed)")
        container.streams.video[0].thread_type = "AUTO"
        yield container


def _seek(container: InputContainer, time: float) -> None:
    """To the key frame before; a file without an index is read from its start."""
    with suppress(*unreadable()):
        container.seek(int(time * 1_000_000))
