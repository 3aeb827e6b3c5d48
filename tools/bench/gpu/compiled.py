"""Compiled networks and kernels: last, for compiling takes most of their minutes."""

from collections.abc import Iterable

from . import attention, networks, small
from .measure import Card, Case


def cases(card: Card) -> Iterable[Case]:
    """The small model first, which gains most."""
    for module in (small, networks, attention):
        yield from module.compiled_cases(card)
