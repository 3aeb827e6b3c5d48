"""Our video VAE as a core VAE, and streaming through any VAE.

Core's VAE Decode, VAE Encode, their tiled forms and previews read fields of the object rather than its class, and each
release adds some. `comfy.sd.VAE.__init__` knows only the architectures in its own list, so it is given none, fills in
its defaults, and what is ours is set after it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from einops import rearrange
from torch import Tensor

from ....models.vae.autoencoder import PIECE, PIECE_AREA, SPACE, TIME, VideoVAE, piece_length
from ....models.vae.loops import around, led_by
from ....models.vae.memory import decoder_bytes, encoder_bytes
from ..full import said_when_full
from ..messages import check_interrupted
from .in_time import decode_long, encode_long
from .others import decode_after_others, decode_loop, encode_loop

SIDE = 2 * SPACE  # patches are two latents wide


def latent_length(num_frames: int) -> int:
    """T of F pixel frames: 1 + 4k frames give 1 + k latents."""
    return max(0, (num_frames + TIME - 1) // TIME)


def pixel_length(num_latents: int) -> int:
    """F of T latents."""
    return max(0, num_latents * TIME - (TIME - 1))


@contextmanager
def _unsaid(text: str) -> Iterator[None]:
    """Keep one line out of the log that would mislead: core warns of a VAE without weights."""

    def other(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    logger = logging.getLogger()
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


class SpacetimeVAE(comfy.sd.VAE):
    """A core VAE around VideoVAE. Always float32: it is small, and pieces then equal the whole."""

    def __init__(self, model: VideoVAE) -> None:
        with _unsaid("No VAE weights detected"):
            super().__init__(sd={})  # every field that this release of core reads, and pixels between 0..1 and -1..1
        manage = comfy.model_management
        self.device = manage.vae_device()
        self.output_device = manage.intermediate_device()
        self.vae_dtype = torch.float32
        # core's name for: in one piece. Weights are 2 to 4 % of what decoding takes at 512 x 512 pixels, so a part of
        # them would spare nothing
        self.disable_offload = True
        self.working_dtypes = [torch.float32]
        self.first_stage_model = model.eval().requires_grad_(False).to(self.vae_dtype)
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=manage.vae_offload_device()
        )
        self.asked = 0
        self.latent_channels, self.output_channels, self.latent_dim = model.config.latent_channels, 3, 3
        self.downscale_ratio = (latent_length, SPACE, SPACE)
        self.upscale_ratio = (pixel_length, SPACE, SPACE)
        self.downscale_index_formula = self.upscale_index_formula = (TIME, SPACE, SPACE)
        self.memory_used_decode, self.memory_used_encode = self._bytes_to_decode, self._bytes_to_encode

    def _bytes_to_decode(self, shape: tuple[int, ...], _dtype: torch.dtype) -> int:
        """What core's VAE Decode takes for latents (B, C, T, H, W): a piece at work, and all pixels of the video."""
        batch, _, length, height, width = shape
        pixels = batch * pixel_length(length) * height * width * SPACE**2
        return decoder_bytes(self.first_stage_model.config, shape) + 4 * 3 * pixels

    def _bytes_to_encode(self, shape: tuple[int, ...], _dtype: torch.dtype) -> int:
        """The same for core's VAE Encode of pixels (B, 3, F, H, W)."""
        return encoder_bytes(self.first_stage_model.config, shape) + 4 * math.prod(shape)

    def load(self, shape: tuple[int, ...], *, decode: bool, cyclic: bool = False) -> VideoVAE:
        """The network on its device, with room for a piece of a video of this shape."""
        model: VideoVAE = self.first_stage_model
        self.asked = (decoder_bytes if decode else encoder_bytes)(model.config, shape, cyclic=cyclic)
        with said_when_full(self.needs):
            comfy.model_management.load_models_gpu([self.patcher], memory_required=self.asked, force_full_load=True)
        return model

    def needs(self) -> str:
        """What the last piece asked for, for those whose GPU does not have it."""
        has, asked = comfy.model_management.get_total_memory(self.device), self.asked + self.patcher.model_size()
        return (
            f"the VAE needs about {asked / 1e6:.0f} MB at this size, however long the video is, and the GPU, of "
            f"{has / 1e6:.0f} MB, has not so much free: make the video smaller, use VAE Decode (Tiled) or VAE Encode "
            "(Tiled), or start ComfyUI with --cpu-vae"
        )


def decode_pieces(vae: Any, latents: Tensor, *, cyclic: bool = False) -> Iterator[Tensor]:
    """Decode latents clip by clip and piece by piece into images (f, H, W, 3) in 0..1 on the CPU.

    Memory is flat in the length of the clip for our VAE; another core VAE takes long clips in pieces of time where that
    makes the same of them (see in_time.py), and loops whole.
    cyclic: each clip is a loop, whose first frames follow its last; it has as many frames for each latent.
    """
    for clip in latents.split(1):
        if not isinstance(vae, SpacetimeVAE):
            yield from [decode_loop(vae, clip)] if cyclic else decode_long(vae, clip)
            continue
        _check_latents(vae, clip)
        model = vae.load(tuple(clip.shape), decode=True, cyclic=cyclic)
        placed = clip.to(vae.device, vae.vae_dtype)
        with said_when_full(vae.needs):
            yield from _images(vae, _loop_pieces(model, placed) if cyclic else _pieces(model, placed))


def decode_as_they_come(vae: Any, latents: Iterable[Tensor], lead: Tensor | None = None) -> Iterator[Tensor]:
    """Images (f, H, W, 3) of latents (1, C, t, H, W) as each piece comes: with nothing kept but what a decoder needs.

    lead (1, C, T, H, W): what went before, of which no images are given. Another model's VAE, which keeps no state,
    decodes each latent after the few before it.
    """
    if not isinstance(vae, SpacetimeVAE):
        yield from decode_after_others(vae, latents, lead)
        return
    skip = 0 if lead is None else pixel_length(lead.shape[2])

    def placed() -> Iterator[Tensor]:
        for piece in latents if lead is None else chain([lead], latents):
            _check_latents(vae, piece)
            vae.load(tuple(piece.shape), decode=True)  # the model may have taken its place meanwhile
            yield piece.to(vae.device, vae.vae_dtype)

    with torch.no_grad():
        for images in _images(vae, vae.first_stage_model.decode_stream(placed())):
            yield images[min(skip, len(images)) :]
            skip -= min(skip, len(images))


def _images(vae: SpacetimeVAE, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Decoded pixels (1, 3, f, H, W) as images (f, H, W, 3)."""
    for pixels in pieces:
        check_interrupted()
        yield rearrange(vae.process_output(pixels.to(vae.output_device)), "1 c f h w -> f h w c")


def _pieces(model: VideoVAE, clip: Tensor) -> Iterator[Tensor]:
    return model.decode_stream(clip.split(piece_length(*clip.shape[-2:]), dim=2))


def _loop_pieces(model: VideoVAE, clip: Tensor) -> Iterator[Tensor]:
    """A short loop at once; a long one as a stream that begins so far before its first frame as the decoder sees."""
    if math.prod(clip.shape[2:]) <= PIECE_AREA:
        yield model.decode(clip, cyclic=True)
        return
    depths = model.config.decoder_depths
    reach = 2 + 2 * depths[0] + depths[1] + -(-depths[2] // 2)  # in latents; layers look back 2 at 1, 2 and 4 times
    skip = pixel_length(reach)
    for pixels in _pieces(model, around(clip, reach)):
        left = pixels[:, :, min(skip, pixels.shape[2]) :]
        skip -= pixels.shape[2] - left.shape[2]
        if left.shape[2]:
            yield left


def _check_latents(vae: SpacetimeVAE, latents: Tensor) -> None:
    if latents.ndim != 5 or latents.shape[1] != vae.latent_channels:
        raise ValueError(
            f"these latents have the shape {tuple(latents.shape)}; this VAE decodes video latents of "
            f"{vae.latent_channels} channels (B, {vae.latent_channels}, T, H, W): use the VAE that belongs to the model"
        )


def encode_pieces(vae: SpacetimeVAE, pieces: Iterable[Tensor]) -> Tensor:
    """Encode one clip that arrives in pieces of images (f, H, W, 3) in 0..1 -> latents (1, C, T, H/8, W/8).

    The frames must add up to 1 + 4k and be of fitting size (see video.FitFrames).
    """
    with torch.no_grad(), said_when_full(vae.needs):
        parts = vae.first_stage_model.encode_stream(_pixels(vae, pieces))
        return torch.cat([part.to(vae.output_device) for part in parts], dim=2)


def _pixels(vae: SpacetimeVAE, pieces: Iterable[Tensor], *, cyclic: bool = False) -> Iterator[Tensor]:
    """Images (f, H, W, 3) as what the encoder takes, each with the network in its place."""
    for images in pieces:
        check_interrupted()
        video = rearrange(images[..., :3], "f h w c -> 1 c f h w")
        vae.load(tuple(video.shape), decode=False, cyclic=cyclic)
        yield vae.process_input(video).to(vae.device, vae.vae_dtype)


def again_in_pieces(vae: Any, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Images through the encoder and the decoder: 1 + 4k of them (or as many as the VAE takes), as many come back."""
    if not isinstance(vae, SpacetimeVAE):
        yield from decode_long(vae, encode_long(vae, pieces))
        return
    with torch.no_grad(), said_when_full(vae.needs):
        latents = vae.first_stage_model.encode_stream(_pixels(vae, pieces))
        yield from _images(vae, vae.first_stage_model.decode_stream(latents))


def loop_again(vae: Any, images: Tensor) -> Tensor:
    """The images of a loop through the encoder and the decoder."""
    if not isinstance(vae, SpacetimeVAE):
        return decode_loop(vae, encode_loop(vae, images))
    if math.prod(images.shape[:3]) <= PIECE_AREA * TIME * SPACE**2:
        (video,) = _pixels(vae, [images], cyclic=True)
        with said_when_full(vae.needs):
            latents = vae.first_stage_model.encode(video, cyclic=True)
    else:
        depths = vae.first_stage_model.config.encoder_depths
        reach = 2 + 2 * depths[0] + depths[1]  # in latents, as in _loop_pieces
        latents = encode_pieces(vae, led_by(images, reach, TIME).split(TIME * PIECE))[:, :, 1 + reach :]
    return torch.cat(list(decode_pieces(vae, latents, cyclic=True)))


@torch.no_grad()
def preview_colours(model: VideoVAE) -> tuple[list[list[float]], list[float]]:
    """The best linear map from a latent (C,) to the mean colour (3,) of its block, for live previews.

    Fitted by least squares on decoded random latents at several contrasts; checkpoints usually carry it ready-made.
    """
    generator = torch.Generator().manual_seed(0)
    contrast = torch.tensor([0.3, 0.6, 1.0])[:, None, None, None, None]
    shape = (3, model.config.latent_channels, 2, 12, 12)
    latents = torch.randn(shape, generator=generator) * contrast
    pixels = model.decode(latents).clamp(-1, 1)  # (3, 3, 5, 96, 96)
    colours = rearrange(pixels[:, :, 1:], "b c (t f) (h y) (w x) -> (b t h w) (f y x) c", f=TIME, y=SPACE, x=SPACE)
    positions = rearrange(latents[:, :, 1:], "b c t h w -> (b t h w) c")
    inputs = torch.cat([positions, torch.ones(len(positions), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, colours.mean(dim=1)).solution  # (C + 1, 3)
    return solution[:-1].tolist(), solution[-1].tolist()
