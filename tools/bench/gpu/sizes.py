"""The presets at several lengths."""

from collections.abc import Iterable

from .measure import Card, Case
from .networks import gradients, inference


def cases(card: Card) -> Iterable[Case]:
    """Forward passes with a text, and forward and backward passes of images."""
    batch = card.either(64, 2)
    for name in ("S", "B", "L"):
        yield Case(f"{name}, 256 patches x {batch}, gradients", lambda name=name: gradients(card, name, batch))
    for name in ("S", "B", "L", "XL"):
        for count in card.either((1024, 4096, 16384), (64,)):
            yield Case(f"{name}, {count} patches", lambda name=name, count=count: inference(card, name, count))
