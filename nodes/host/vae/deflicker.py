"""Deflickered decoding with any video VAE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ....models.vae import deflicker
from . import others as other_vae
from . import pieces as host_vae


def decode_steadily(vae: Any, latents: Tensor, *, cyclic: bool = False) -> Iterator[Tensor]:
    """Like decode_pieces, without steps from one latent's frames to the next one's (see models/vae/deflicker.py).

    Memory is flat in the length of the clip for our VAE, but a loop is held whole. ValueError for a VAE without time.
    """
    if getattr(vae, "latent_dim", 3) != 3:
        raise ValueError("this VAE decodes single images, which do not flicker: turn deflicker off")
    each = other_vae.frames_per_latent(vae)
    for clip in latents.split(1):
        pieces = host_vae.decode_pieces(vae, clip, cyclic=cyclic)
        if cyclic:
            yield deflicker.deflicker_loop(torch.cat(list(pieces)), lambda loop: host_vae.loop_again(vae, loop), each)
        elif clip.ndim == 5 and clip.shape[2] > 1:
            yield from deflicker.deflicker(pieces, lambda frames: host_vae.again_in_pieces(vae, frames), each)
        else:
            yield from pieces
