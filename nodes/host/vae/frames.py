"""Frames of IMAGE and VIDEO, a piece at a time, and video files: a long video is never held in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from comfy_api.latest import InputImpl, Types
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from ....models.geometry import OURS, Compression
from ....models.media import reader, writer
from ....models.media.sound import Sound
from ....models.vae.autoencoder import piece_length
from ..folders import temp_file
from .sound import as_audio, of_components

# later hosts make floats of a file's frames, with colours between pixels interpolated: so that ours equal theirs
HOST_IS_PRECISE = hasattr(InputImpl.VideoFromFile, "get_bit_depth")


@dataclass(frozen=True)
class FrameSource:
    """A video that can be read from the start as often as needed, as a player shows it."""

    width: int
    height: int
    num_frames: int  # by the header of a file: only reading tells
    fps: float | None
    pieces: Callable[[], Iterator[Tensor]]  # images (f, H, W, 3) in 0..1
    sound: Callable[[], Sound | None] = lambda: None
    remarks: Callable[[], list[str]] = list  # what people should know of it, once it has been read


def open_frames(source: Any) -> FrameSource:
    """The frames of an IMAGE batch (F, H, W, C) or of a VIDEO. File-backed VIDEO is read as a stream."""
    if isinstance(source, Tensor):
        return _from_images(source, None)
    if type(source) is not InputImpl.VideoFromFile or _is_unknown(source):
        components = source.get_components()
        alpha = getattr(components, "alpha", None)
        images = components.images if alpha is None else torch.cat([components.images[..., :3], alpha], dim=-1)
        made = _from_images(images, float(components.frame_rate))
        return replace(made, sound=lambda: of_components(components))
    start, duration = _trim(source)
    place = source.get_stream_source()
    try:
        file = reader.open_file(place, start=start, duration=duration, precise=HOST_IS_PRECISE)
    except ValueError as error:
        raise ValueError(f"{Path(place).name if isinstance(place, str) else 'this video'}: {error}") from error
    length = frames_per_piece(file.height, file.width)
    return FrameSource(
        file.width,
        file.height,
        file.expected,
        float(file.fps),
        lambda: reader.images(file, length),
        lambda: Sound.of_file(place, file.begin) if file.has_sound else None,
        lambda: reader.remarks(file),
    )


def _is_unknown(video: Any) -> bool:
    """Whether a VIDEO carries more than a file and a cut in time (a crop): the host then has to read it itself."""
    known = {f"_VideoFromFile__{name}" for name in ("file", "start_time", "duration")}
    return any(value for name, value in vars(video).items() if name not in known)


def _trim(video: Any) -> tuple[float, float]:
    """Start and duration in seconds of what newer hosts' Load Video cuts out of a file; 0 is all of it."""
    if hasattr(video, "get_active_trim_window"):
        start, duration = video.get_active_trim_window()
        return float(start), float(duration)
    start, duration = (float(getattr(video, f"_VideoFromFile__{name}", 0)) for name in ("start_time", "duration"))
    if start < 0:
        start = max(0.0, video._get_raw_duration() + start)
    return start, duration


def _from_images(images: Tensor, fps: float | None) -> FrameSource:
    if images.ndim != 4 or images.shape[0] == 0 or not 1 <= images.shape[-1] <= 4:
        raise ValueError(f"a video needs images (frames, height, width, colours), got {tuple(images.shape)}")
    count, height, width, colours = images.shape
    length = frames_per_piece(height, width)
    transparent = colours in (2, 4) and bool((images[..., -1] < 1).any())
    return FrameSource(
        width,
        height,
        count,
        fps,
        lambda: (_opaque(piece) for piece in images.split(length)),
        remarks=lambda: ["what is transparent was laid on black"] if transparent else [],
    )


def _opaque(images: Tensor) -> Tensor:
    """Images (f, H, W, 1 to 4) as RGB, what is transparent on black."""
    colours = images.shape[-1]
    if colours == 3:
        return images
    shown = images[..., :-1] * images[..., -1:] if colours in (2, 4) else images
    return shown if shown.shape[-1] == 3 else shown.expand(*shown.shape[:-1], 3)


def frames_per_piece(height: int, width: int) -> int:
    """As many frames as the VAE takes at a time."""
    return OURS.time * piece_length(-(-height // OURS.space), -(-width // OURS.space))


def limit(pieces: Iterable[Tensor], max_frames: int) -> Iterator[Tensor]:
    """The first max_frames frames; 0 means all."""
    left = max_frames
    for piece in pieces:
        if max_frames == 0:
            yield piece
            continue
        yield piece[:left]
        left -= min(left, len(piece))
        if left == 0:
            return


class FitFrames:
    """Pieces of a video made to fit a VAE: the end trimmed to whole latents, the middle cut to whole patches.

    Iterate once; afterwards `describe()` says what was left out.
    """

    def __init__(self, pieces: Iterable[Tensor], compression: Compression = OURS) -> None:
        self._pieces = pieces
        self._fit = compression
        self.frames_in = self.frames_out = 0
        self.size_in: tuple[int, int] = (0, 0)
        self.size_out: tuple[int, int] = (0, 0)

    def __iter__(self) -> Iterator[Tensor]:
        rest: Tensor | None = None
        for piece in self._pieces:
            self.frames_in += len(piece)
            cropped = self._crop(piece)
            rest = cropped if rest is None else torch.cat([rest, cropped])
            available = self.frames_out + len(rest)
            ready = self._fit.fitting(available) - self.frames_out
            if ready > 0:
                self.frames_out += ready
                yield rest[:ready]
                rest = rest[ready:]
        if self.frames_out == 0:
            raise ValueError("this video has no frames")

    def _crop(self, images: Tensor) -> Tensor:
        height, width = images.shape[1:3]
        kept_height, kept_width = self._fit.fitting_side(height), self._fit.fitting_side(width)
        if not kept_height or not kept_width:
            raise ValueError(
                f"a video of {width} x {height} pixels is too small: both sides need at least {self._fit.side}"
            )
        self.size_in, self.size_out = (width, height), (kept_width, kept_height)
        return crop_centre(images, kept_height, kept_width)

    def describe(self) -> str:
        """One line: what was encoded, and what was cut off."""
        text = f"{self.frames_out} frames of {self.size_out[0]} x {self.size_out[1]}"
        if self.frames_in != self.frames_out:
            grid, lost = self._fit.grid, self.frames_in - self.frames_out
            fits = f"{grid.count(grid.least)} + {sum(grid.rest)}k fit"
            text += f"; the last {lost} of {self.frames_in} dropped ({fits})"
        if self.size_in != self.size_out:
            text += f"; cropped from {self.size_in[0]} x {self.size_in[1]} (multiples of {self._fit.side} fit)"
        return text


def crop_centre(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images (F, H, W, C)."""
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def video_of(images: Tensor, fps: float, sound: Sound | None = None) -> Any:
    """A core VIDEO of images in memory (F, H, W, 3), with a sound where there is one."""
    audio = None if sound is None else as_audio(sound, len(images) / fps)
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=images, frame_rate=writer.rational(fps), audio=audio)
    )


class VideoWriter:
    """Writes frames to an H.264 mp4 in the host's temp folder as they come; `video()` is the finished core VIDEO.

    The file gets its name only when it is complete; after an error or an interrupt nothing is left.
    """

    def __init__(self, fps: float, *, crf: int = writer.CRF, sound: Sound | None = None) -> None:
        self.path = temp_file(".mp4")
        self._writing = writer.mp4_writer(self.path, fps, crf=crf, sound=sound)
        self._file: writer.Mp4 | None = None

    def write(self, images: Tensor) -> None:
        """Append images (f, H, W, 3) in 0..1."""
        if self._file is not None:
            self._file.write((images[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())

    def __enter__(self) -> VideoWriter:
        self._file = self._writing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file = None
        self._writing.__exit__(kind, error, trace)

    def video(self) -> Any:
        """The finished file as a core VIDEO."""
        return video_from_file(self.path)


def video_from_file(path: Path) -> Any:
    """A core VIDEO that is read from its file whenever it is used."""
    return InputImpl.VideoFromFile(str(path))


def images_not_kept() -> Any:
    """What stands in for images that were never in memory: only a node that asks for them complains."""
    return ExecutionBlocker(
        "this VAE Decode Video wrote a video file and kept no images: set its output to 'images and video'"
    )
