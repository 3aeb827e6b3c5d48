"""Noise of core's sde samplers, remembered over steps.

They draw it from a Brownian tree on the CPU, which costs far more than the rest of a replay. A draw depends on nothing
but the seed and its two noise levels, so a replay may as well get the tensor that was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import comfy.k_diffusion.sampling as k_diffusion
import torch
from torch import Tensor

Draws = dict[tuple[int, float, float], Tensor]


@contextmanager
def remembered(draws: Draws) -> Iterator[None]:
    """While open, core's Brownian noise samplers take their draws from `draws` and add the new ones (CPU memory)."""
    original: Any = getattr(k_diffusion, "BrownianTreeNoiseSampler", None)
    if original is None:
        yield
        return
    number = count()

    class Remembering:
        def __init__(self, x: Tensor, *args: Any, **kwargs: Any) -> None:
            self.number = next(number)
            self.like = x
            self.made: Any = None
            self.make: Callable[[], Any] = lambda: original(x, *args, **kwargs)
            if kwargs.get("seed") is None:
                self.made = self.make()  # it takes a seed from torch's global generator: in its turn, as core does

        def __call__(self, sigma: Any, sigma_next: Any) -> Tensor:
            key = (self.number, float(torch.as_tensor(sigma)), float(torch.as_tensor(sigma_next)))
            if key in draws:
                return draws[key].to(self.like.device, copy=True)
            self.made = self.made or self.make()
            drawn: Tensor = self.made(sigma, sigma_next)
            draws[key] = drawn.detach().to("cpu", copy=True)
            return drawn

    k_diffusion.BrownianTreeNoiseSampler = Remembering
    try:
        yield
    finally:
        k_diffusion.BrownianTreeNoiseSampler = original
