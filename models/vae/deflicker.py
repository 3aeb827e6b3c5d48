"""Decoded frames without a step from one latent to the next: cycle spinning (Coifman and Donoho 1995) along time.

A latent stands for several frames, and what is wrong with them changes all at once where the next latent begins. So the
frames go through the VAE once more, half a latent later. Where one of the two decodings has such a step the other has
none, and each frame is mixed of both by how deep inside its latent it lies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

RoundTrip = Callable[[Iterator[Tensor]], Iterable[Tensor]]  # pieces of frames through the VAE and back, in any pieces


def share_of_the_second(begin: int, count: int, each: int, *, cyclic: bool = False) -> Tensor:
    """How much of the second decoding goes into frames begin, begin + 1, ...: (count,) in 0..1.

    each: frames that a latent stands for. Frame 0 of a video that is no loop fills a latent alone, as its last frame.
    """
    place = torch.arange(begin, begin + count) + (0 if cyclic else each - 1)
    first, second = (_depth(place + moved, each) for moved in (0, each // 2))
    return second / (first + second)


def _depth(place: Tensor, each: int) -> Tensor:
    """Distance of a frame's middle from the nearer end of its latent, in frames."""
    inside = place % each + 0.5
    return torch.minimum(inside, each - inside)


def deflicker(pieces: Iterable[Tensor], round_trip: RoundTrip, each: int) -> Iterator[Tensor]:
    """The frames of a decoded video, 1 + each x k in pieces (f, H, W, C), without steps from latent to latent.

    round_trip: encodes and decodes 1 + each x k frames. Keeps no more frames than it does. A single frame, and what a
    VAE of a latent per frame decodes, comes back as it is.
    """
    waiting: deque[Tensor] = deque()

    def later() -> Iterator[Tensor]:
        """The frames with half a latent of their first one in front, and of their last one behind."""
        last: Tensor | None = None
        for piece in pieces:
            waiting.append(piece)
            yield piece if last is not None else torch.cat([_repeated(piece[:1], each // 2), piece])
            last = piece[-1:]
        if last is not None:
            yield _repeated(last, each - each // 2)

    if each == 1:
        yield from pieces
        return
    place, skip = 0, each // 2
    for decoded in round_trip(later()):
        again = decoded[min(skip, len(decoded)) :]
        skip -= len(decoded) - len(again)
        while len(again) and waiting:
            plain = waiting.popleft()
            count = min(len(plain), len(again))
            if count < len(plain):
                waiting.appendleft(plain[count:])
            yield _mixed(plain[:count], again[:count], share_of_the_second(place, count, each))
            place, again = place + count, again[count:]


def deflicker_loop(frames: Tensor, round_trip: Callable[[Tensor], Tensor], each: int) -> Tensor:
    """The same for a loop (each x k, H, W, C); round_trip takes and gives a loop."""
    if each == 1:
        return frames
    again = round_trip(frames.roll(each // 2, dims=0)).roll(-(each // 2), dims=0)
    return _mixed(frames, again, share_of_the_second(0, len(frames), each, cyclic=True))


def _repeated(frame: Tensor, times: int) -> Tensor:
    return frame.expand(times, *frame.shape[1:])


def _mixed(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(one, other, share.to(one)[:, None, None, None])
