"""Pictures, and pictures that move (animated WebP, PNG, AVIF), through Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .colour import Pixels, Shown, scaled
from .container import Source
from .grid import even_rate

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MOVING = {"WEBP", "PNG", "APNG", "GIF", "AVIF"}
SHORTEST = 0.011  # seconds; browsers show frames that say less for a tenth of a second
NO_PICTURE = "it is no picture that can be read"


@dataclass(frozen=True)
class Drawn:
    """A picture in memory."""

    image: Pixels

    def pixels(self, width: int = 0, height: int = 0) -> Pixels:
        """At its own size or another one."""
        return scaled(self.image, width, height) if width else self.image


@dataclass
class PictureFile:
    """A file that Pillow opens: one frame, or some with times. ValueError, one sentence, when it cannot."""

    source: Source
    width: int = 0
    height: int = 0
    fps: Fraction = Fraction(1)
    expected: int = 1
    step: float = 1.0
    begin: float = 0.0
    moving: bool = False
    has_sound: bool = False
    damage: str = ""
    pages: int = 1
    transparent: bool = False

    def __post_init__(self) -> None:
        with opened(self.source) as image:
            self.pages = count = int(getattr(image, "n_frames", 1))
            self.moving = count > 1 and image.format in MOVING
            first, _ = _shown(image)
            self.height, self.width = first.shape[:2]
            if self.moving:
                lengths = [_length(image, number) for number in range(count)]
                times = [sum(lengths[:number]) for number in range(count)]
                self.fps = even_rate(None, [*times, sum(lengths)])
                self.expected = max(1, round(sum(lengths) * float(self.fps)))
                self.step = 1 / float(self.fps)

    def frames(self, since: float = 0.0) -> Iterator[tuple[float, float, Shown]]:
        """(time, end, picture) in seconds; those that end before `since` may be left out."""
        time, self.transparent = 0.0, False
        with opened(self.source) as image:
            for number in range(self.pages if self.moving else 1):
                length = _length(image, number) if self.moving else self.step
                pixels, through = _shown(image)
                self.transparent |= through
                if time + length > since - 1:
                    yield time, time + length, Drawn(pixels)
                time += length

    @property
    def remarks(self) -> list[str]:
        """What people should know of the frames that were read."""
        found = []
        if self.pages > 1 and not self.moving:
            found.append(f"only the first of its {self.pages} pages is used")
        if self.transparent:
            found.append("what is transparent was laid on black")
        return found


@contextmanager
def opened(source: Source) -> Iterator[PillowImage]:
    """The file as a Pillow image. ValueError when it is none."""
    from PIL import Image

    with suppress(ImportError):  # iPhones' pictures, where the user has installed their reader
        import importlib

        importlib.import_module("pillow_heif").register_heif_opener()
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with Image.open(source) as image:
            yield image
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(NO_PICTURE) from error


def _length(image: PillowImage, number: int) -> float:
    """Go to a frame; how long it is shown, in seconds."""
    image.seek(number)
    image.load()
    length = float(image.info.get("duration") or 0) / 1000
    return length if length >= SHORTEST else 0.1


def _shown(image: PillowImage) -> tuple[Pixels, bool]:
    """The current frame upright, (H, W, 3), and whether anything was seen through. 16 bits become floats."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep(image), False
    if not (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        return np.asarray(image.convert("RGB")), False
    rgba = np.asarray(image.convert("RGBA"))
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3]), False
    return np.round(rgba[..., :3] * (alpha / np.float32(255))).astype(np.uint8), True


def _deep(image: PillowImage) -> Pixels:
    """Gray of more than 8 bits as floats in 0..1. ValueError for numbers without a known white."""
    gray = np.asarray(image).astype(np.float32)
    if image.mode != "F":
        gray = gray / np.float32(65535)
    if not np.isfinite(gray).all() or gray.min() < 0 or gray.max() > 1:
        raise ValueError("its numbers are no brightness from black to white: save it with 8 or 16 bits")
    return np.repeat(gray[..., None], 3, axis=-1)
