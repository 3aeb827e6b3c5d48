"""What a task hands to a denoising run, and the checks that all tasks share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """What a run starts from.

    latents  (B, C, T, H, W) known content, zeros where nothing is known
    change   (B, 1, T, H, W) how far each place may change: 1 generate, 0 keep
    cyclic   the time axis is a circle: after the last latent comes the first
    """

    latents: Tensor
    change: Tensor
    cyclic: bool = False

    def __post_init__(self) -> None:
        if self.latents.ndim != 5:
            raise ValueError(f"a task works on video latents (B, C, T, H, W), got {tuple(self.latents.shape)}")
        expected = (self.latents.shape[0], 1, *self.latents.shape[2:])
        if self.change.shape != expected:
            raise ValueError(f"change levels of shape {tuple(self.change.shape)} do not fit: expected {expected}")


def without_first(clip: Tensor, task: str) -> Tensor:
    """A clip without the latent of its first frame, which can only stand at the beginning of a video."""
    if clip.ndim != 5 or clip.shape[2] < 2:
        raise ValueError(
            f"a clip of {clip.shape[2] if clip.ndim == 5 else 0} latents is too short to {task}: its first latent "
            "stands for a single frame and is left out, so it needs at least 2 (5 frames)"
        )
    return clip[:, :, 1:]


def filled(latents: Tensor, level: float) -> Tensor:
    """One change level for all places of latents (B, C, T, H, W): (B, 1, T, H, W)."""
    return latents.new_full((latents.shape[0], 1, *latents.shape[2:]), level)


def check_share(value: float, what: str) -> None:
    """ValueError unless the value lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{what} is {value}: it must lie between 0 and 1")


def check_same_size(first: Tensor, second: Tensor) -> None:
    """ValueError unless two clips differ in length at most."""
    a, b = tuple(first.shape), tuple(second.shape)
    if a[:2] != b[:2] or a[3:] != b[3:]:
        raise ValueError(
            f"clips of {a[-1]} x {a[-2]} and {b[-1]} x {b[-2]} latents ({a[0]} and {b[0]} in the batch, {a[1]} and "
            f"{b[1]} channels) cannot be connected: make the videos the same size and use the same VAE"
        )


def check_loop(num_latents: int) -> None:
    """ValueError for a loop that cannot move."""
    if num_latents < 2:
        raise ValueError(f"a loop of {num_latents} latent has nothing that moves: use 2 or more")
