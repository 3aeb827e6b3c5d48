"""What sets a kind of DiT run apart: what is learned from a batch, and how the model that comes of it is to be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...recommended import CARD, Recommended
from .batches import Batch


def clips_themselves(batch: Batch) -> Batch:
    """The batch as it was drawn: noised clips."""
    return batch


@dataclass(frozen=True)
class Recipe:
    """A kind of run.

    lesson  a drawn batch -> the batch that the step learns from; depends on nothing else, and is asked in order
    shown   with which settings the samples of a report are made
    meta    more entries for the headers of the files that it leaves
    """

    lesson: Callable[[Batch], Batch] = clips_themselves
    shown: Recommended = CARD
    meta: dict[str, Any] = field(default_factory=dict)


PLAIN = Recipe()
