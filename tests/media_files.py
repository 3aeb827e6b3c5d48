"""Small files of footage for tests: each says how it is to be shown, and its frames tell their numbers."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def counting(count: int, height: int = 40, width: int = 60) -> list[np.ndarray]:
    """Frame i is gray of brightness 20 + 5 i, so that a picture tells its number."""
    return [np.full((height, width, 3), 20 + 5 * i, np.uint8) for i in range(count)]


def numbers(frames: Any) -> list[int]:
    """The numbers of counting frames, uint8 or floats."""
    pixels = np.asarray(frames, dtype=np.float64)
    bright = pixels.mean(axis=(1, 2, 3))
    return [round((one - 19) / 5) for one in (bright * 255 if pixels.max() <= 1 else bright)]


def corners(height: int = 64, width: int = 96) -> np.ndarray:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    picture = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    picture[:h, :w, 0] = picture[:h, w:, 1] = picture[h:, :w, 2] = 220
    picture[h:, w:] = 220
    return picture


def encode(
    path: Path, frames: list[Any], rate: Fraction | int = 12, codec: str = "ffv1", pixels: str = "yuv420p", **more: Any
) -> Path:
    """A video. times: in milliseconds, for a varying rate; squeeze: width of a pixel over its height; sound: a rate.

    frames: arrays of rgb24, or av.VideoFrames that are taken as they are. tags: of the stream (colorspace, ...).
    """
    with av.open(str(path), "w", format=more.get("muxer"), options=more.get("container", {})) as container:
        stream = container.add_stream(codec, rate=rate, options=more.get("options", {}))
        first = frames[0]
        stream.height, stream.width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        stream.pix_fmt = pixels
        for name, value in more.get("tags", {}).items():
            setattr(stream.codec_context, name, value)
        if "squeeze" in more:
            stream.codec_context.sample_aspect_ratio = more["squeeze"]
        sound = container.add_stream("aac", rate=more["sound"], layout="stereo") if "sound" in more else None
        if "times" in more:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, given in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(given, format="rgb24") if isinstance(given, np.ndarray) else given
            if "times" in more:
                frame.pts, frame.time_base = more["times"][number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(tone(len(frames) / float(rate), more["sound"])))
            container.mux(sound.encode(None))
    return path


def tone(seconds: float, rate: int, pitch: float = 440.0) -> av.AudioFrame:
    """A sine on two channels; the second is half as loud."""
    wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave / 2]).astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = rate, 0
    return frame


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the header of an mp4, as a phone that was held upright does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    assert int.from_bytes(content[place : place + 4], "big") == one, "the identity was there"
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    content[place : place + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    path.write_bytes(bytes(content))
    return path


def solid(pixel_format: str, values: tuple[int, ...], size: int = 32, **tags: int) -> av.VideoFrame:
    """A frame whose planes hold one number each."""
    frame = av.VideoFrame(size, size, pixel_format)
    deep = frame.format.components[0].bits > 8
    for plane, value in zip(frame.planes, values, strict=True):
        kind = np.uint16 if deep else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame
