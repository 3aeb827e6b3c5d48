"""A moving strip of a run while it goes on: the model's guess of the clean video, and the noisy state beside it.

It hangs in the callback that core gives to every sampler. A step hands over what the step before has shown, if that
has arrived from the GPU by then, so that no step is waited for; and nothing is made where no editor listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...models.media.sprite import sprite
from ...models.transfer import Fetched
from . import messages
from .colours import Colours, colours_of, unit

EVENT = "spacetime.strip"
FRAMES = 12  # at most: evenly spaced ones of a longer video
PAUSE = 0.1  # seconds between two messages
Show = Callable[[int, Tensor, Tensor, int], None]  # (step from 0, guess, state, steps), as core's callbacks
_running: ContextVar[bool] = ContextVar("spacetime_strip", default=False)


class _Pending(NamedTuple):
    step: int
    total: int
    frames: Fetched  # (2, F, h, w, 3)


class Strip:
    """What one run shows."""

    def __init__(self, node: str, colours: Colours) -> None:
        self._node, self._colours = node, colours
        self._pending: _Pending | None = None
        self._sent = -PAUSE

    def show(self, step: int, guess: Any, state: Any, total: int) -> None:
        """Take a step's guess and state (B, C, T, H, W), in the model's units; of a batch the first."""
        self._hand_over()
        now = time.monotonic()
        if now - self._sent < PAUSE and step + 1 < total:
            return
        pair = [_first(x, self._colours.channels) for x in (guess, state)]
        if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
            return
        self._sent = now
        frames = torch.stack([self._colours(pair[0]), self._colours(unit(pair[1]))])
        self._pending = _Pending(step + 1, max(total, step + 1), Fetched(frames))
        self._hand_over()

    def finish(self) -> None:
        """Show the last step. The run has ended: what it gave has been waited for."""
        self._hand_over(wait=True)

    def _hand_over(self, *, wait: bool = False) -> None:
        pending = self._pending
        if pending is None or not (wait or pending.frames.there):
            return
        self._pending = None
        made = sprite(pending.frames.value())
        messages.show_json(EVENT, {"node": self._node, "step": pending.step, "total": pending.total, **made._asdict()})


def _first(latents: Any, channels: int) -> Tensor | None:
    """Some frames of the first clip, (C, F, H, W); None for latents that are no pictures of this format."""
    if getattr(latents, "is_nested", False):
        latents = latents.unbind()[0]
    if latents.ndim == 4:
        latents = latents[:, :, None]
    if latents.ndim != 5 or latents.shape[1] != channels:
        return None
    clip, count = latents[0].detach(), latents.shape[2]
    most = min(FRAMES, count)
    return torch.stack([clip[:, (2 * i + 1) * count // (2 * most)] for i in range(most)], dim=1)


@contextmanager
def strip(latent_format: Any) -> Iterator[Show]:
    """While it is open: a callback that shows each step on the running node. Inside of another one it does nothing."""
    node = None if _running.get() else messages.listening_node()
    colours = None if node is None else colours_of(latent_format)
    if node is None or colours is None:
        yield lambda *_: None
        return
    shown, token = Strip(node, colours), _running.set(True)
    try:
        yield shown.show
        shown.finish()
    finally:
        _running.reset(token)


@contextmanager
def hidden() -> Iterator[None]:
    """While it is open no run shows a strip."""
    token = _running.set(True)
    try:
        yield
    finally:
        _running.reset(token)


def joined(callback: Callable[..., Any] | None, show: Show) -> Callable[..., Any]:
    """Core's callback and ours as one."""

    def both(step: int, guess: Any, state: Any, total: int) -> None:
        if callback is not None:
            callback(step, guess, state, total)
        show(step, guess, state, total)

    return both
