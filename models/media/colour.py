"""Decoded frames as RGB: range, matrix, depth, transparency and high dynamic range as a player shows them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import hdr

if TYPE_CHECKING:
    from av import VideoFrame

Pixels = NDArray[Any]  # (H, W, 3), uint8 or float32 in 0..1


class Shown(Protocol):
    """A frame of a file, not yet RGB."""

    def pixels(self, width: int = 0, height: int = 0) -> Pixels:
        """As shown, (H, W, 3), at the file's size or another one."""


class Painter:
    """Makes RGB of a video's frames. One per reading: setting up a scaler takes a hundred times longer than using it.

    Range and matrix are the file's (BT.601 where it names none, as in ComfyUI and ffmpeg). Transparency is laid on
    black. `precise`: floats also of 8 bits, with colours between pixels interpolated; slower.
    """

    def __init__(self, precise: bool = False) -> None:
        self.precise = precise
        self.transparent = False  # whether anything was seen through
        self._scalers: dict[str, Any] = {}
        self._one_thread = {"threads": 1}  # for small pictures threads cost more than they bring
        self._borders: tuple[tuple[int, int, str], Any, Any] | None = None

    def __call__(self, frame: VideoFrame, width: int, height: int, transfer: str = "", primaries: int = 0) -> Pixels:
        """A frame (H, W, 3), as stored, scaled to this size: uint8 where the file has 8 bits, else float32 in 0..1."""
        names = frame.format
        if names.name == "pal8" or any(part.is_alpha for part in names.components):
            return self._on_black(frame, width, height)
        deep = max(part.bits for part in names.components) > 8
        if transfer or primaries == hdr.BT2020:
            floats = self._floats(frame, width, height)
            return hdr.to_sdr(floats, transfer) if transfer else hdr.to_709(floats)
        if deep or (self.precise and not names.is_rgb and not names.name.startswith("yuvj")):
            return self._floats(frame, width, height)
        return np.asarray(self._scaled(frame, width, height, "rgb24").to_ndarray(), dtype=np.uint8)

    def _floats(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.float32]:
        size = width, height
        if (frame.width, frame.height) == size and width % 32:
            frame = self._bordered(frame)
            width, height = frame.width, frame.height
        pixels = self._scaled(frame, width, height, "gbrpf32le").to_ndarray()
        return np.clip(pixels[: size[1], : size[0]], 0, 1, dtype=np.float32)

    def _on_black(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.float32]:
        exact = frame.format.name in ("pal8", "rgba", "bgra", "argb", "abgr")  # 8 bits that swscale only has to sort
        taken = self._scaled(frame, frame.width, frame.height, "rgba" if exact else "gbrapf32le").to_ndarray()
        rgba: NDArray[np.float32] = np.clip(np.asarray(taken, np.float32) / (255 if exact else 1), 0, 1)
        alpha = rgba[..., 3:]
        self.transparent |= bool((alpha < 1).any())
        return scaled(rgba[..., :3] * alpha, width, height)

    def _scaled(self, frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
        from av.video.reformatter import VideoReformatter

        scaler = self._scalers.setdefault(pixel_format, None) or VideoReformatter().reformat
        self._scalers[pixel_format] = scaler
        options: dict[str, Any] = dict(self._one_thread)
        if (width, height) != (frame.width, frame.height):
            options["interpolation"] = "AREA" if width * height < frame.width * frame.height else "BICUBIC"
        if not frame.format.is_rgb and frame.color_range:
            options["src_color_range"] = frame.color_range
        try:
            return scaler(frame, width, height, pixel_format, **options)
        except TypeError:  # before PyAV 15
            self._one_thread = {}
            options.pop("threads", None)
            return scaler(frame, width, height, pixel_format, **options)

    def _bordered(self, frame: VideoFrame) -> VideoFrame:
        """swscale reads past the end of a row that is no multiple of 32 wide: give it something to read there."""
        import av

        key = frame.width, frame.height, frame.format.name
        if self._borders is None or self._borders[0] != key:
            width, height = (-(-side // 32) * 32 for side in key[:2])
            graph = av.filter.Graph()
            begin = graph.add_buffer(
                width=key[0], height=key[1], format=frame.format, time_base=frame.time_base or Fraction(1)
            )
            pad = graph.add("pad", f"{width}:{height}:0:0")
            fill = graph.add("fillborders", f"right={width - key[0]}:bottom={height - key[1]}:mode=smear")
            end = graph.add("buffersink")
            begin.link_to(pad)
            pad.link_to(fill)
            fill.link_to(end)
            graph.configure()
            self._borders = key, (graph, begin), end
        self._borders[1][1].push(frame)
        bordered: Any = self._borders[2].pull()
        return bordered


def scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture (H, W, 3) at another size: area means down, bicubic up; the kind of its numbers stays."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image

    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((width, height), method))
    planes = [Image.fromarray(np.ascontiguousarray(pixels[..., i])).resize((width, height), method) for i in range(3)]
    return np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0, 1, dtype=np.float32)


def as_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """A picture as uint8."""
    return pixels if pixels.dtype == np.uint8 else np.round(pixels * 255).astype(np.uint8)


def as_floats(pixels: Pixels) -> NDArray[np.float32]:
    """A picture as float32 in 0..1."""
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels
