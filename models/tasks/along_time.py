"""Tasks along time: animate, extend, retake, connect, loop.

A video VAE gives a clip's first frame a latent of its own, and every later latent stands for several frames. So a first
latent belongs at the beginning of a video: tasks that would put a clip's first latent anywhere else leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .canvas import Canvas, check_loop, check_open, check_same_size, check_share, filled, join, without_first
from .statistics import slerp
from .track import Track


def animate(stills: Sequence[Tensor], positions: Sequence[int], num_latents: int) -> Canvas:
    """A video of num_latents latents in which each still (B, C, 1, H, W) is known at its position.

    Negative positions count from the end. Positions after 0 hold the still for all frames of that latent.
    """
    if not stills or len(stills) != len(positions):
        raise ValueError(f"{len(stills)} stills and {len(positions)} positions: give each still a position")
    if len(stills) > num_latents:
        raise ValueError(f"{len(stills)} known frames do not fit a video of {num_latents} latents: make it longer")
    shape = stills[0].shape
    for still in stills:
        if still.shape != shape or still.shape[2] != 1:
            raise ValueError(f"stills must be single latents of one size, got {[tuple(s.shape) for s in stills]}")
    latents = stills[0].new_zeros(*shape[:2], num_latents, *shape[3:])
    change = latents.new_ones(shape[0], 1, num_latents, *shape[3:])
    taken: set[int] = set()
    for still, position in zip(stills, positions, strict=True):
        index = position + num_latents if position < 0 else position
        if not 0 <= index < num_latents:
            raise ValueError(f"position {position} lies outside a video of {num_latents} latents")
        if index in taken:
            raise ValueError(f"two stills share latent {index}: move their times apart or make the video longer")
        taken.add(index)
        latents[:, :, index], change[:, :, index] = still[:, :, 0], 0.0
    return Canvas(latents, change)


def extend(clip: Tensor | Canvas, before: int = 0, after: int = 0) -> Canvas:
    """New latents before and after a clip (B, C, T, H, W), which is kept; before > 0 drops its first latent.

    Unless that is as long as later ones: then they may be added in whole rounds of its time alone.
    """
    if before < 0 or after < 0 or before + after == 0:
        raise ValueError(f"extend by {before} latents before and {after} after: one of them must be above 0")
    given = Canvas.of(clip)
    check_open(given, "extend")
    return (without_first(given, "extend backward") if before else given).grown((0, 0, 0, 0, before, after))


def retake(clip: Tensor | Canvas, start: int, stop: int, region: Tensor | None = None) -> Canvas:
    """A clip of which the latents from start to stop are made anew, or a region (B or 1, 1, T, H, W) of them.

    ValueError for a stretch that is not in the clip, and for an empty region.
    """
    given = Canvas.of(clip)
    if not 0 <= start < stop <= given.length:
        raise ValueError(f"latents {start} to {stop} are no stretch of a clip of {given.length} latents")
    change = filled(given.latents, 0.0)
    change[:, :, start:stop] = 1.0
    if region is not None:
        change = change * (region > 0)
        if not bool(change.any()):
            raise ValueError("the mask is empty in this stretch, so nothing would be made anew: paint what shall")
    return given.freed(change)


def connect_gap(first: Tensor | Canvas, second: Tensor | Canvas, gap: int) -> Canvas:
    """Both clips kept, `gap` new latents between them; the second clip's first latent is left out."""
    if gap < 1:
        raise ValueError(f"a gap of {gap} latents leaves nothing to generate: use 1 or more")
    one, other = _to_connect(first, second)
    return join([extend(one, after=gap), without_first(other, "connect to")])


def _to_connect(first: Tensor | Canvas, second: Tensor | Canvas) -> tuple[Canvas, Canvas]:
    one, other = Canvas.of(first), Canvas.of(second)
    check_same_size(one.latents, other.latents)
    for clip in (one, other):
        check_open(clip, "connect")
    return one, other


def connect_blend(
    first: Tensor | Canvas, second: Tensor | Canvas, overlap: int, strength: float = 0.2, between: Tensor | None = None
) -> Canvas:
    """One clip turns into the other while both play, over `overlap` latents.

    At weight w, a smooth step from 0 to 1 over the overlap, the content is slerp(first, second, w) and the change level
    is strength * 4w(1-w): most freedom halfway, where a plain cross-fade would show two pictures at once.
    between: content to use instead, (B, C, overlap, H, W), such as the latents of frames that fade into each other:
    within a latent these change smoothly, where the slerp goes in one step per latent.
    """
    check_share(strength, "the strength of a blend")
    one, other = _to_connect(first, second)
    check_overlap(one.latents, other.latents, overlap)
    other = without_first(other, "connect to")
    w = smooth_steps(overlap).to(one.latents).reshape(1, 1, -1, 1, 1)
    end, start = one.part(-overlap, None), other.part(None, overlap)
    morph = slerp(end.latents, start.latents, w) if between is None else between
    end = replace(end, sound=blended(end.sound, start.sound, strength))
    if morph.shape != end.latents.shape:
        raise ValueError(
            f"{tuple(morph.shape)} latents between clips of {tuple(one.latents.shape)} do not fit {overlap}"
        )
    middle = replace(end, latents=morph).freed(start.change).freed(strength * 4 * w * (1 - w))
    return join([one.part(None, -overlap), middle, other.part(overlap, None)])


def blended(first: Track | None, second: Track | None, strength: float) -> Track | None:
    """The sound of an overlap: one turns into the other, as the pictures do. None where either has none."""
    if first is None or second is None:
        return first
    # both may be rounded to unlike lengths, so each is held a little; where they are joined, what is too long goes
    length = max(first.latents.shape[2], second.latents.shape[2]) + 1
    one, other = first.held(length), second.held(length)
    w = smooth_steps(length).to(one.latents).reshape(1, 1, -1, 1, 1)
    mixed = replace(one, latents=slerp(one.latents, other.latents.to(one.latents), w))
    return mixed.freed(other.change).freed(strength * 4 * w * (1 - w))


def check_overlap(first: Tensor, second: Tensor, overlap: int) -> None:
    """ValueError unless two clips (B, C, T, H, W) can overlap by so many latents; the second's first one goes."""
    check_same_size(first, second)
    longest = min(first.shape[2], second.shape[2] - 1)
    if not 1 <= overlap <= longest:
        raise ValueError(f"an overlap of {overlap} latents: use 1 to {longest}, what both clips have")


def smooth_steps(count: int) -> Tensor:
    """`count` weights that rise from near 0 to near 1, slowly at both ends: u^2 (3 - 2u) at u = i / (count + 1)."""
    u = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1)
    return u.square() * (3 - 2 * u)


def cross_fade(first: Tensor, second: Tensor, frames: int) -> Tensor:
    """Frames (F, H, W, C) of one video that fade into those of another over `frames` frames: F1 + F2 - frames."""
    if not 1 <= frames <= min(len(first), len(second)):
        raise ValueError(f"a cross-fade of {frames} frames: use 1 to {min(len(first), len(second))}, what both have")
    w = smooth_steps(frames).to(first).reshape(-1, 1, 1, 1)
    return torch.cat([first[:-frames], torch.lerp(first[-frames:], second[:frames], w), second[frames:]])


def loop_new(latents: Tensor | Canvas) -> Canvas:
    """A loop to be generated on these latents, with what a canvas already knows of them (a still, for example)."""
    canvas = Canvas.of(latents, level=1.0)
    check_loop(canvas.length)
    return canvas.closed()


def loop_clip(clip: Tensor | Canvas, gap: int) -> Canvas:
    """A clip closed into a loop by `gap` new latents that lead from its end to its start; its first latent goes."""
    if gap < 1:
        raise ValueError(f"a gap of {gap} latents cannot close a clip into a loop: use 1 or more")
    given = Canvas.of(clip)
    check_open(given, "lead back from")
    canvas = extend(without_first(given, "loop"), after=gap)
    check_loop(canvas.length)
    return canvas.closed()


def loop_shift(step: int, num_latents: int, skip: int = 0) -> int:
    """By how many latents to roll time at a step so that each place meets each position (Mobius, arXiv 2502.20307).

    skip 0 chooses the number nearest to the golden section of the loop that shares no divisor with its length.
    """
    check_loop(num_latents)
    if skip % num_latents == 0:
        coprime = [n for n in range(1, num_latents) if math.gcd(n, num_latents) == 1]
        skip = min(coprime, key=lambda n: abs(n - 0.618 * num_latents))
    return (step * skip) % num_latents
