"""Frames of a VAE in 0..1, plain and deflickered: what benchmarks of the embedded model decode with."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...models.vae.autoencoder import TIME, VideoVAE
from ...models.vae.deflicker import deflicker, deflicker_loop
from .sampling import Frames


def images(pixels: Tensor) -> Tensor:
    """Decoded pixels (1, 3, F, H, W) as frames (F, H, W, 3) in 0..1."""
    return ((pixels[0].float().cpu().clamp(-1, 1) + 1) / 2).permute(1, 2, 3, 0)


def true_frames(clip: Frames) -> Tensor:
    """A rendered clip as frames in 0..1."""
    return torch.from_numpy(clip).float() / 255


@torch.no_grad()
def deflickered(vae: VideoVAE, frames: Tensor, *, cyclic: bool = False) -> Tensor:
    """Decoded frames (F, H, W, 3) without steps from latent to latent."""

    def again(frames: Tensor) -> Tensor:
        pixels = (frames * 2 - 1).permute(3, 0, 1, 2)[None].to(vae.decoder.linear.weight)
        return images(vae.decode(vae.encode(pixels, cyclic=cyclic), cyclic=cyclic))

    def in_one_piece(pieces: Iterator[Tensor]) -> Iterator[Tensor]:
        yield again(torch.cat(list(pieces)))

    if cyclic:
        return deflicker_loop(frames, again, TIME)
    return torch.cat(list(deflicker([frames], in_one_piece, TIME)))
