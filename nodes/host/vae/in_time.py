"""Long clips through another model's VAE in pieces of time, so that memory does not grow with their length.

Core's VAE objects take a clip whole. A network that keeps a cache goes on with it from piece to piece (carried.py).
Others remember what came before, and some look ahead, so a piece goes through with latents around it that are left out
again. How many is seen from the first pieces: a latent at their border is made twice, once with all that came before
it. Where no number of them makes the two alike, the clip goes through whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....models.geometry import Frames
from .carried import decode_carried, encode_carried, keeps_cache
from .others import INVISIBLE, LEADS, compression_of, decode_clip, is_image_vae, looks_ahead, time_of

PIECE = 20  # latents that go through at once, those around them not counted: a multiple of all rounds
WHOLE = 40  # a clip of no more latents goes through whole


class Around(NamedTuple):
    """Latents that go through before and after a piece, to be left out again."""

    before: int
    after: int


# of a VAE's network, found once: around its pieces when they are decoded and encoded; None where it has to be whole
_decoding: WeakKeyDictionary[Any, Around | None] = WeakKeyDictionary()
_encoding: WeakKeyDictionary[Any, Around | None] = WeakKeyDictionary()


def decode_long(vae: Any, clip: Tensor) -> Iterator[Tensor]:
    """Images (f, H, W, 3), piece by piece, of one clip (1, C, T, H, W) or of one image (1, C, H, W).

    As one decode makes them, to less than a step of 8 bits.
    """
    length = clip.shape[2] if clip.ndim == 5 else 1
    if length > WHOLE and keeps_cache(vae.first_stage_model, "decoder"):
        yield from decode_carried(vae, clip, PIECE)
        return
    around = None if length <= WHOLE else _found(_decoding, vae, lambda: _around_decoding(vae, clip))
    if around is None:
        yield decode_clip(vae, clip)
        return
    time = time_of(vae)
    for begin, end in pairwise([*range(0, length - around.after, PIECE), length]):
        yield _decoded(vae, clip, time, (begin, end), around)


def _decoded(vae: Any, clip: Tensor, time: Frames, piece: tuple[int, int], around: Around) -> Tensor:
    """The images of latents begin to end, with latents around them."""
    begin, end = piece
    start = max(0, begin - around.before)
    images = decode_clip(vae, clip[:, :, start : end + around.after])
    return images[time.count(begin - start) : time.count(end - start)]


def _around_decoding(vae: Any, clip: Tensor) -> Around | None:
    """What the pieces of this clip need around them."""
    if is_image_vae(vae):
        return Around(0, 0)
    time = time_of(vae)
    ahead = time.step > 1 or looks_ahead(vae, clip.shape[1])

    def again(around: Around) -> Tensor:
        return _decoded(vae, clip, time, (PIECE, PIECE + time.step), around)

    whole = decode_clip(vae, clip[:, :, : 2 * PIECE - time.step + time.least])
    expected = whole[time.count(PIECE) : time.count(PIECE + time.step)]
    return _enough(_choices(time, ahead=ahead), lambda around: _rms(again(around) - expected))


def encode_clip(vae: Any, pieces: Iterable[Tensor]) -> tuple[Tensor, int, str]:
    """Latents of a video, how many of its frames are in them, and what was cut off; an image VAE takes all as it is."""
    from .frames import FitFrames  # video needs vae, and vae this module

    if is_image_vae(vae):
        latents = torch.cat([_encode(vae, images) for images in pieces])
        return latents, len(latents), f"{len(latents)} images"
    fitted = FitFrames(pieces, compression_of(vae))
    return encode_long(vae, fitted), fitted.frames_out, fitted.describe()


def encode_long(vae: Any, pieces: Iterable[Tensor]) -> Tensor:
    """Latents (1, C, T, h, w) of images (f, H, W, C) that come in pieces and are whole latents together.

    As one encode makes them, to within INVISIBLE of their deviation.
    """
    time, held = time_of(vae), _Held(pieces)
    if not held.reach(time.count(WHOLE) + 1):
        return _encode(vae, held.between(0, held.end))
    if keeps_cache(vae.first_stage_model, "encoder"):
        return encode_carried(vae, held.pieces_of([time.count(PIECE + 1), sum(time.rest) * PIECE]))
    around = _found(_encoding, vae, lambda: _around_encoding(vae, held, time))
    if around is None:
        held.reach(None)
        return _encode(vae, held.between(0, held.end))
    made, begin = [], 0
    while held.reach(time.count(begin + PIECE + around.after) + 1):
        made.append(_encoded(vae, held, time, (begin, begin + PIECE), around))
        begin += PIECE
        held.forget(_first(time, max(0, begin - around.before)))
    made.append(_encoded(vae, held, time, (begin, None), around))
    return torch.cat(made, dim=2)


def _encoded(vae: Any, held: _Held, time: Frames, piece: tuple[int, int | None], around: Around) -> Tensor:
    """The latents begin to end (None: all that are left), with frames of latents around them."""
    begin, end = piece
    start = max(0, begin - around.before)
    stop = held.end if end is None else time.count(end + around.after)
    latents = _encode(vae, held.between(_first(time, start), stop))
    lead = begin - start + (start > 0 and bool(time.head))  # the first of its frames gets a latent of its own
    return latents[:, :, lead : None if end is None else lead + end - begin]


def _first(time: Frames, latent: int) -> int:
    """The frame at which a window begins whose first whole latent is this one: it starts with a single frame."""
    return time.count(latent) - (latent > 0 and bool(time.head))


def _around_encoding(vae: Any, held: _Held, time: Frames) -> Around | None:
    """What the pieces of a clip need around them, by its beginning; encoders do not look ahead of their round."""
    place = PIECE, PIECE + time.step
    expected = _encoded(vae, held, time, (0, place[1] + time.least), Around(0, 0))[:, :, place[0] : place[1]]
    scale = expected.float().std().clamp(min=1e-6)

    def difference(around: Around) -> float:
        return _rms((_encoded(vae, held, time, place, around) - expected) / scale)

    return _enough(_choices(time, ahead=time.step > 1), difference)


def _choices(time: Frames, *, ahead: bool) -> list[Around]:
    """What to try: more and more latents before a piece, and after it where the network looks ahead.

    Where latents come in rounds, a window begins with one and ends as a clip does.
    """
    if time.step > 1:
        return [Around(time.step * rounds, time.least) for rounds in (0, 1, 2)]
    return [Around(lead, lead if ahead else 0) for lead in LEADS if lead < PIECE]


def _enough(choices: Iterable[Around], difference: Callable[[Around], float]) -> Around | None:
    """The first choice that shows no difference; where more does not help, for a network adds noise, the one before."""
    best, before = None, float("inf")
    for around in choices:
        now = difference(around)
        if now <= INVISIBLE:
            return around
        if now > 0.9 * before:
            return best
        best, before = around, now
    logging.getLogger(__name__).info(
        "Spacetime: this VAE remembers more than its clips can be cut by (%.2g), so they go through whole", before
    )
    return None


def _found(known: WeakKeyDictionary[Any, Around | None], vae: Any, find: Callable[[], Around | None]) -> Around | None:
    network = vae.first_stage_model
    if network not in known:
        known[network] = find()
    return known[network]


def _encode(vae: Any, images: Tensor) -> Tensor:
    latents: Tensor = vae.encode(images[..., :3])
    return latents


def _rms(value: Tensor) -> float:
    return float(value.float().square().mean().sqrt())


@dataclass
class _Held:
    """Frames of a stream that are still needed: those from `begin` on, of those that were read so far."""

    pieces: Iterable[Tensor]

    def __post_init__(self) -> None:
        self._source = iter(self.pieces)
        self._frames: list[Tensor] = []
        self.begin = self.end = 0

    def reach(self, end: int | None) -> bool:
        """Read on until there are frames up to `end`, or to the stream's own end; whether there are so many."""
        while end is None or self.end < end:
            piece = next(self._source, None)
            if piece is None:
                return False
            self._frames.append(piece)
            self.end += len(piece)
        return True

    def between(self, start: int, stop: int) -> Tensor:
        """The frames from start to stop, (f, H, W, C)."""
        return torch.cat(self._frames)[start - self.begin : stop - self.begin]

    def pieces_of(self, lengths: Sequence[int]) -> Iterator[Tensor]:
        """All frames, so many at a time, of the last number again and again; the last piece may be shorter."""
        start = 0
        for length in chain(lengths, repeat(lengths[-1])):
            self.reach(start + length)
            if self.end > start:
                yield self.between(start, min(self.end, start + length))
            if self.end < start + length:
                return
            start += length
            self.forget(start)

    def forget(self, start: int) -> None:
        """Nothing before this frame is needed any more."""
        while self._frames and self.begin + len(self._frames[0]) <= start:
            self.begin += len(self._frames.pop(0))
