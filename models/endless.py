"""From lines of text to a video without end: the path of generate.py, but with a window that rolls along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .flow import Denoiser
from .generate import Models, mixed_predictor, predictor
from .geometry import FPS, OURS
from .guidance import Guidance
from .pixels import to_uint8
from .rolling import CONTRAST, DenoiserOf, Rolling, Window, opened, shares_of, stream
from .schedules import highest_sigma, sigma_of, sigmas
from .solvers import Solver
from .tasks.prompts import Key, check_endless, parse_keys


@torch.no_grad()
def endless(
    models: Models,
    prompts: str,
    *,
    height: int = 96,
    width: int = 96,
    window: int = 9,
    context: int = 3,
    steps: int | None = None,
    cfg: float | Guidance | None = None,
    shift: float | None = None,
    solver: str | None = None,
    seed: int = 0,
    fps: float = FPS,
    fade: float = 0.0,
    negative: str = "",
    window_at: Window | None = None,
) -> Iterator[tuple[NDArray[np.uint8], Window]]:
    """Frames (f, H, W, 3) uint8 as they come, for ever, each time with the window that a stream goes on from.

    prompts: a line for each, `0: a red ball rolls` (tasks.prompts); each holds until the next. window, context: in
    latents (rolling.Rolling.within). window_at: a window to go on from; its frames begin with that of a single latent.
    What is not given is that of `models.best`. ValueError for sizes and prompts that cannot be.
    """
    keys = parse_keys(prompts, "a blue ball")
    check_endless(keys)
    best = models.best
    shift = best.shift if shift is None else shift
    top = highest_sigma(models.dit.config.prediction)
    levels = sigmas("linear", best.steps if steps is None else steps, shift=shift, sigma_max=top)
    rolling = Rolling.within(window, context, levels, Solver(name=best.solver if solver is None else solver), seed)
    guidance = cfg if isinstance(cfg, Guidance) else Guidance(scale=best.cfg if cfg is None else cfg)
    _, *size = OURS.latent_shape(1, height, width)
    start = window_at or opened(rolling, torch.zeros(1, models.dit.config.in_channels, 0, *size))
    denoiser_of = prompted(models, keys, guidance, sigma_of(shift), fps=fps, fade=fade, negative=negative)
    weight = models.vae.decoder.linear.weight
    windows: list[Window] = []

    def latents() -> Iterator[Tensor]:
        for latent, after in stream(rolling, start, denoiser_of):
            windows.append(after)
            yield latent.to(weight)

    for pixels in models.vae.decode_stream(latents()):
        yield to_uint8(pixels[0]), windows.pop()


def prompted(
    models: Models,
    keys: Sequence[Key],
    guidance: Guidance,
    percent_to_sigma: Callable[[float], float],
    *,
    fps: float = FPS,
    fade: float = 0.0,
    negative: str = "",
) -> DenoiserOf:
    """The DiT for the windows of a stream whose latents have the prompts of their times. The last few are kept."""
    made: list[tuple[object, Denoiser]] = []

    def denoiser_of(window: Window) -> Denoiser:
        shares = shares_of(window, keys, OURS.grid, fps, begin=0, fade=fade)
        key = tuple((text, *share.tolist()) for text, share in shares.items())
        for known, denoiser in made:
            if known == key:
                return denoiser
        shape = (window.length, *window.latents.shape[3:])
        placed = {text: share[:, None, None].expand(shape) for text, share in shares.items()}
        positive = (
            mixed_predictor(models, placed, contrast=CONTRAST)
            if len(placed) > 1
            else predictor(models, list(placed), shape)
        )
        denoiser = guidance.denoiser(positive, predictor(models, [negative], shape), percent_to_sigma)
        made[:] = [*made[-1:], (key, denoiser)]
        return denoiser

    return denoiser_of
