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


def compression_of_format(described: Any) -> Compression | None:
    """What a latent format of core says of itself, or what is known of it by its name; None where neither."""
    known = FORMATS.get(type(described).__name__)
    if known is not None:
        return known
    time, space = (getattr(described, f"{axis}_downscale_ratio", None) for axis in ("temporal", "spacial"))
    return None if time is None else Compression(int(time), int(space or OURS.space))
