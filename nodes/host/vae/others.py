"""Video VAEs of other models: which sizes they take, stills and clips through the encoder, loops through the decoder.

Core's VAE object says how it compresses; whether its decoder looks ahead, and how far back it remembers, is found out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ....models.geometry import CHANNELS, OURS, Compression, Frames, frames_of
from ....models.tasks.along_time import check_overlap, cross_fade
from ....models.vae.loops import around, led_by
from ..formats import compression_of_format
from ..messages import check_interrupted
from ..sounding import picture_channels

LEADS = (4, 8, 16, 32)  # latents to decode besides a loop, tried one after the other
BEFORE = 4  # latents that are decoded again before a new one of a stream
INVISIBLE = 1 / 512  # root mean square, of full scale: half a step of 8 bits


def compression_of(vae: Any) -> Compression:
    """What a core VAE says of its latents; one that does not say how long they are counts as one of 4 frames."""
    grid, space = time_of(vae), int(vae.spacial_compression_encode())
    if grid == Frames.every(grid.rest[0]):
        return Compression(grid.rest[0], space)
    return Compression(max(grid.rest), space, grid)


def time_of(vae: Any) -> Frames:
    """Which frames the latents of this VAE stand for; an image VAE has one latent for each.

    ValueError for a rhythm that is not known here.
    """
    if is_image_vae(vae):
        return Frames.every(1)
    ratio = getattr(vae, "upscale_ratio", None)
    if isinstance(ratio, tuple | list) and callable(ratio[0]):
        return frames_of(ratio[0])
    return Frames.every(int(vae.temporal_compression_decode() or OURS.time))


def frames_per_latent(vae: Any) -> int:
    """How many frames a latent of this VAE stands for. ValueError where they are not equally long."""
    grid = time_of(vae)
    if grid.step > 1:
        raise ValueError(
            f"latents of this VAE stand for {', '.join(map(str, grid.rest))} frames in turn: loops and deflickering "
            "need latents of one length"
        )
    return grid.rest[0]


def is_image_vae(vae: Any) -> bool:
    """Whether a core VAE knows single pictures only."""
    return bool(getattr(vae, "latent_dim", 3) == 2)


def latents_of(model: Any | None, vae: Any | None) -> tuple[int, Compression]:
    """Channels and compression of the latents that go with a MODEL, a VAE or both; without either those of this pack.

    ValueError when the two do not belong together.
    """
    described = None if model is None else model.get_model_object("latent_format")
    channels = None if described is None else picture_channels(model) or int(described.latent_channels)
    if vae is not None:
        own = int(getattr(vae, "latent_channels", channels or CHANNELS))
        if channels not in (None, own):
            raise ValueError(
                f"the model reads latents of {channels} channels and the VAE makes {own}: connect the VAE that belongs "
                "to the model"
            )
        return own, compression_of(vae)
    # a format that says nothing counts as one of our kind
    return channels or CHANNELS, (described and compression_of_format(described)) or OURS


def encode_still(vae: Any, image: Tensor) -> Tensor:
    """One latent (1, C, 1, h, w) of an image (1, H, W, C), cut to whole patches; any core video VAE."""
    compression = compression_of(vae)
    height, width = (compression.fitting_side(size) for size in image.shape[1:3])
    if not height or not width:
        raise ValueError(
            f"an image of {image.shape[2]} x {image.shape[1]} is too small: both sides need {compression.side} pixels"
        )
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    latent: Tensor = vae.encode(image[:, top : top + height, left : left + width, :3])
    if latent.ndim != 5 or latent.shape[2] != 1:
        raise ValueError(f"this VAE makes latents of shape {tuple(latent.shape)} of an image: use a video model's VAE")
    return latent


def decode_clip(vae: Any, clip: Tensor) -> Tensor:
    """Images (F, H, W, 3) of one clip (1, C, T, H, W), or of one image (1, C, H, W), all in one go."""
    check_interrupted()
    if is_image_vae(vae) and clip.ndim == 5:  # core would decode the first frame alone
        clip = clip.transpose(1, 2).flatten(0, 1)
    images: Tensor = vae.decode(clip).flatten(0, -4)
    return images


def decode_after_others(vae: Any, latents: Iterable[Tensor], lead: Tensor | None = None) -> Iterator[Tensor]:
    """Images of latents (1, C, t, H, W) as they come, decoded after the few latents before them.

    A decoder that looks ahead gets the next latent too, so its images come one latent later. lead: what went before, of
    which no images are given.
    """
    time, seen, waiting, ahead = time_of(vae), lead, 0, 0
    for piece in chain(latents, [None]):
        if piece is not None:
            ahead = int(looks_ahead(vae, piece.shape[1])) if not waiting and seen is lead else ahead
            seen = piece if seen is None else torch.cat([seen[:, :, -BEFORE - waiting :].to(piece), piece], dim=2)
            waiting += piece.shape[2]
        left = ahead if piece is not None else 0
        if seen is not None and waiting > left:
            length = seen.shape[2]
            yield decode_clip(vae, seen)[time.count(length - waiting) : time.count(length - left)]
            waiting = left


def fading(vae: Any, first: Tensor, second: Tensor, overlap: int) -> Tensor:
    """Latents (B, C, overlap, h, w) of what shows the end of one clip fade into the beginning of another.

    The fade is made of frames, so it goes on within a latent too. The second clip's first latent is left out; a frame
    of the first clip's first latent, which stands for one frame, fades into the last of the other's.
    """
    check_overlap(first, second, overlap)
    begin = first.shape[2] - overlap
    faded = []
    for one, other in zip(first.split(1), second.split(1), strict=True):
        frames, following = decode_clip(vae, one), decode_clip(vae, other)
        each = (len(frames) - 1) // max(1, one.shape[2] - 1) if one.shape[2] > 1 else frames_per_latent(vae)
        length = overlap * each if begin else 1 + (overlap - 1) * each
        whole = cross_fade(frames, following[1 + overlap * each - length :], length)
        latents: Tensor = vae.encode(whole[..., :3])
        faded.append(latents[:, :, begin : begin + overlap])
    return torch.cat(faded).to(first)


def decode_loop(vae: Any, clip: Tensor) -> Tensor:
    """A loop (1, C, T, H, W) through another model's video VAE: as many frames for each latent, and no seam.

    A causal decoder makes a single frame of its first latent and remembers those before, so the loop's last latents go
    in front; one that looks ahead gets its first latents behind as well. How many are needed is seen from the result:
    the last frames stand in it twice, once with less before them. While they differ visibly, more latents go in front.
    ValueError for a VAE without time, or whose latents are of another kind.
    """
    _check_video_vae(vae, clip)
    after = looks_ahead(vae, clip.shape[1])
    before, frames = float("inf"), clip.new_zeros(0)
    for lead in LEADS:
        made, difference = _decode_around(vae, clip, lead, lead if after else 0)
        if difference > 0.9 * before:  # more does not help: some decoders add noise of their own
            return frames
        before, frames = difference, made
        if difference <= INVISIBLE:
            return frames
    logging.getLogger(__name__).warning(
        "Spacetime: this VAE's decoder remembers more than %d latents, so the loop may show a seam of %.1f%% of full "
        "scale: compare it with Measure Seam",
        LEADS[-1],
        100 * before,
    )
    return frames


def encode_loop(vae: Any, images: Tensor) -> Tensor:
    """Latents (1, C, T, h, w) of a loop of images (frames of T latents, H, W, C), each of them with those before it.

    As in decode_loop, more of the loop goes in front until its last latent, which then is there twice, stays the same.
    """
    each, before = frames_per_latent(vae), float("inf")
    latents = images.new_zeros(0)
    for lead in LEADS:
        made: Tensor = vae.encode(led_by(images, lead, each)[..., :3])
        twice = made[:, :, lead], made[:, :, -1]
        difference = float(
            (twice[0] - twice[1]).float().square().mean().sqrt() / twice[1].float().std().clamp(min=1e-6)
        )
        if difference > 0.9 * before:
            return latents
        before, latents = difference, made[:, :, 1 + lead :]
        if difference <= INVISIBLE:
            break
    return latents


def _decode_around(vae: Any, clip: Tensor, lead: int, tail: int) -> tuple[Tensor, float]:
    """The loop's frames, and how far frames at its ends differ from the same ones with more or less around them."""
    length = clip.shape[2]
    images = decode_clip(vae, around(clip, lead, tail))
    each, rest = divmod(len(images) - 1, lead + length + tail - 1)
    if rest or not each:
        raise ValueError(
            f"this VAE makes {len(images)} frames of {lead + length + tail} latents, not 1 + n for each further one: "
            "it cannot decode a loop"
        )

    def latent(index: int) -> Tensor:
        begin = 1 + (lead + index - 1) * each
        return images[begin : begin + each]

    pairs = [(latent(-1), latent(length - 1)), *([(latent(length), latent(0))] if tail else [])]
    difference = max(float((a - b).float().square().mean().sqrt()) for a, b in pairs)
    return images[1 + (lead - 1) * each :][: each * length], difference


def looks_ahead(vae: Any, channels: int) -> bool:
    """Whether a decoder's first frame depends on later latents; tried on three small latents."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, channels, 3, 2, 2, generator=generator)
    other = latents.clone()
    other[:, :, -1] = torch.randn(1, channels, 2, 2, generator=generator)
    one, two = (_first_frame(vae, value) for value in (latents, other))
    return not torch.allclose(one, two, atol=1e-3)


def _first_frame(vae: Any, latents: Tensor) -> Tensor:
    with torch.random.fork_rng():  # LTX-Video's decoder draws noise
        torch.manual_seed(0)
        return decode_clip(vae, latents)[0]


def _check_video_vae(vae: Any, clip: Tensor) -> None:
    if getattr(vae, "latent_dim", 3) != 3:
        raise ValueError("this VAE decodes single images and knows no time: decode a loop with a video model's VAE")
    channels = getattr(vae, "latent_channels", clip.shape[1])
    if channels != clip.shape[1]:
        raise ValueError(
            f"these latents have {clip.shape[1]} channels and this VAE decodes {channels}: use the VAE that belongs to "
            "the model"
        )
