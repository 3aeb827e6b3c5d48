"""With which settings a MODEL is best run: what nodes take where a person leaves a setting to the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_sampling

from ....models.patches import Patch
from ....models.recommended import CARD, Recommended
from ....models.schedules import highest_sigma
from .levels import is_ours

RECOMMENDED = "spacetime_recommended"  # attachment of a MODEL: models.recommended.Recommended or None
OWN = "recommended for this model"
CARDS = "those of spacetime-toy"


@dataclass(frozen=True)
class Own:
    """The settings of a MODEL, and where they come from.

    settings   what to run it with
    source     where guidance, steps and solver come from, for people
    shift_source  where the shift comes from
    sigma_max  the noisiest level that it was trained on
    """

    settings: Recommended
    source: str
    shift_source: str
    sigma_max: float = 1.0


def recommended(model: Any) -> Recommended | None:
    """What the file of a MODEL recommends; None where it recommends nothing."""
    known: Recommended | None = model.get_attachment(RECOMMENDED)
    return known


def own_settings(model: Any | None) -> Own:
    """The settings of a MODEL; those of the embedded one where there is none or where its file recommends nothing."""
    if model is None:
        alone = f"{CARDS}, as no model is connected"
        return Own(CARD, alone, alone)
    known = recommended(model)
    source = OWN if known is not None else f"{CARDS}, as this model recommends none"
    shift = schedule_shift(model)
    settings = known or CARD
    if shift is None:
        return Own(settings, source, source, noisiest(model))
    return Own(replace(settings, shift=shift), source, "the shift of this model", noisiest(model))


def schedule_shift(model: Any) -> float | None:
    """The shift of a MODEL's own schedule, also as ModelSamplingSD3 and its kin set it; None where it has none."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.ModelSamplingFlux):
        return math.exp(sampling.shift)  # it counts in logarithms
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscreteFlow):
        return float(sampling.shift)
    return None


def noisiest(model: Any) -> float:
    """The level where a flow model's schedule begins: 1, or less where it never saw pure noise (it predicts eps)."""
    if is_ours(model):
        return highest_sigma(model.get_model_object("diffusion_model").config.prediction)
    sampling = model.get_model_object("model_sampling")
    highest = float(getattr(sampling, "sigma_max", 1.0))
    return highest if highest < 0.9999 else 1.0  # sigma 1 may have been rounded; other kinds count beyond it


def patch_of(model: Any | None) -> Patch | None:
    """The patch (frames, height, width of latents) that a MODEL cuts; None for none, and where it does not say."""
    if model is None:
        return None
    network = model.get_model_object("diffusion_model")
    if is_ours(model):
        patch: Patch = network.config.patch
        return patch
    for holder in (network, getattr(network, "patchifier", None)):  # LTX-Video's has a thing of its own for it
        size = getattr(holder, "patch_size", None)
        if isinstance(size, int):
            return (getattr(holder, "patch_size_t", None) or 1, size, size)
        if isinstance(size, tuple | list) and len(size) == 3:
            return (int(size[0]), int(size[1]), int(size[2]))
    sides = getattr(network, "patch_temporal", None), getattr(network, "patch_spatial", None)
    return None if None in sides else (int(sides[0] or 1), int(sides[1] or 1), int(sides[1] or 1))
