"""What core's latent formats say of their latents: frames and pixels that one stands for."""

from __future__ import annotations

from typing import Any

from ...models.geometry import MINIMAX_H3, OURS, Compression

# by the name of the format, for hosts that do not say it of them
FORMATS = {
    "LTXV": Compression(8, 32),
    "LTXAV": Compression(8, 32),
    "Cosmos1CV8x8x8": Compression(8, 8),
    "Mochi": Compression(6, 8),
    "Wan22": Compression(4, 16),
    "Wan21": Compression(4, 8),
    "HunyuanVideo": Compression(4, 8),
    "HunyuanVideo15": Compression(4, 16),
    "MiniMaxH3AV": Compression(4, 16, MINIMAX_H3),
    "MiniMaxH3Video": Compression(4, 16, MINIMAX_H3),
}

# pixels along a latent's side by the channels of a video's latents: all models that have so many agree
SIDES = {128: 32, 48: 16, 32: 16, 24: 16, 16: 8, 12: 8, 4: 8}


def side_of(channels: int) -> int:
    """Pixels along the side of a latent of so many channels. ValueError where nobody tells."""
    if channels not in SIDES:
        raise ValueError(
            f"nothing tells how many pixels a latent of {channels} channels stands for: set pixels_per_latent (8 in "
            "most models)"
        )
    return SIDES[channels]


def compression_of_format(described: Any) -> Compression | None:
    """What a latent format of core says of itself, or what is known of it by its name; None where neither."""
    known = FORMATS.get(type(described).__name__)
    if known is not None:
        return known
    time, space = (getattr(described, f"{axis}_downscale_ratio", None) for axis in ("temporal", "spacial"))
    return None if time is None else Compression(int(time), int(space or OURS.space))
