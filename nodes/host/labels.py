"""Class labels in a conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .model import CLASS, CLASS_NAMES, SpacetimeModel


def labelled(model: Any, label: str, conditioning: Any | None) -> list[Any]:
    """A CONDITIONING that asks for a class of this MODEL, by name or number; an empty label is no class.

    ValueError when the model has no classes, none of this name, or reads text and there is none.
    """
    inner = model.model
    count = inner.diffusion_model.config.num_classes if isinstance(inner, SpacetimeModel) else 0
    if not count:
        raise ValueError("this model was not trained with classes: turn them on in Train DiT, or prompt it with text")
    number = class_number(label, model.get_attachment(CLASS_NAMES) or (), count)
    if conditioning is None:
        if inner.diffusion_model.config.context_dim:
            raise ValueError("this model reads text too: connect a CLIP Text Encode (it may be empty) to conditioning")
        conditioning = [[torch.zeros(1, 1, 1), {}]]
    return [[text, {**more, CLASS: number}] for text, more in conditioning]


def class_number(label: str, names: Sequence[str], count: int) -> int:
    """The number of a class from its name or number; `count` for an empty label. ValueError lists what there is."""
    wanted = " ".join(label.replace("_", " ").split()).lower()
    if not wanted:
        return count
    known = {name.lower(): number for number, name in enumerate(names)}
    if wanted in known:
        return known[wanted]
    if wanted.isdecimal() and int(wanted) < count:
        return int(wanted)
    there = ", ".join(names[:20]) or f"numbers from 0 to {count - 1}"
    raise ValueError(f'this model knows no class "{label}": choose one of {there}')
