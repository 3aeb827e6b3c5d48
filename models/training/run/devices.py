"""Where networks lie while a run makes its report: what is judged on the device, what waits in the CPU's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def home_of(network: nn.Module) -> torch.device:
    """Where a network's first parameter lies."""
    return next(network.parameters()).device


@contextmanager
def taking_turns(waiting: nn.Module | None, *judged: nn.Module, device: torch.device) -> Iterator[None]:
    """Networks on the device for a while, and `waiting`, which has been there, away: the device never holds both.

    Afterwards each is where it was. On the CPU nothing moves.
    """
    places = [(network, home_of(network)) for network in (*judged, *([] if waiting is None else [waiting]))]
    try:
        if waiting is not None:
            waiting.to("cpu")
        for network in judged:
            network.to(device)
        yield
    finally:
        for network, place in places:
            network.to(place)
