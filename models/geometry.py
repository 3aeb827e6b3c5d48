"""How seconds, frames and latents of a video hang together."""

from __future__ import annotations


def latents_for(seconds: float, fps: float, per_latent: int) -> int:
    """How many latents last so long; at least one for any time above 0."""
    return max(1 if seconds > 0 else 0, round(seconds * fps / per_latent))


def latent_at(seconds: float, fps: float, per_latent: int, *, cyclic: bool = False) -> int:
    """The latent that holds the frame at this time: the first frame has one of its own, except in a loop."""
    frame = round(seconds * fps)
    if cyclic:
        return frame // per_latent
    return 0 if frame <= 0 else 1 + (frame - 1) // per_latent


def frame_of(latent: int, per_latent: int) -> int:
    """The first frame of a latent."""
    return 0 if latent <= 0 else 1 + (latent - 1) * per_latent
