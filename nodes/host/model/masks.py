"""How a core MODEL reads a noise mask: asked with a small example, whatever methods its class overrides.

Some models take a noise level for each patch or frame, so known places stay clean and are seen as clean. Others have
one level for the whole video; core then noises known places anew at every step, or shows them clean beside a level
that says otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....models.streams import joint, layout_beside
from ..sounding import FORMATS

LEVEL = 0.5  # of the way from clean to noise at which it is asked
FRAMES, SIDE = 3, 4  # latents of the example
_known: WeakKeyDictionary[Any, MaskReading] = WeakKeyDictionary()


@dataclass(frozen=True)
class MaskReading:
    """What a model makes of a mask.

    levels  it takes a noise level for each place or frame
    clean   known places are shown to it as they are, not noised
    fits    its inputs keep their size when there is a mask
    """

    levels: bool
    clean: bool
    fits: bool = True

    @property
    def sentence(self) -> str:
        """What people should know of it; empty where known places are what they seem."""
        if self.levels:
            return ""
        how = (
            "shown clean, though it takes them to be as noisy as the rest"
            if self.clean
            else "noised anew at every step, as much as the rest"
        )
        return f"this model has one noise level for the whole video, so places that are kept are {how}"


def mask_reading(model: Any) -> MaskReading:
    """How a MODEL reads a noise mask. A model that cannot be asked counts as one with a single level."""
    base = model.model
    if base not in _known:
        try:
            _known[base] = _asked(base)
        except (RuntimeError, TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
            logging.getLogger(__name__).debug("Spacetime: %s was not asked about masks: %s", type(base).__name__, error)
            _known[base] = MaskReading(levels=False, clean=False)
    return _known[base]


def said_of(model: Any, change: Tensor | None) -> str:
    """What people should know of places that a run keeps, wholly or in part; empty where there are none."""
    if change is None or not bool((change < 1).any()):
        return ""
    return mask_reading(model).sentence


def check_mask(model: Any, prompts: Iterable[Mapping[str, Any]] = ()) -> None:
    """ValueError for a model that a mask does not fit: core then gives it more channels than it has weights for.

    prompts: the entries of the conditioning; those with a mask of their own are used instead.
    """
    entries = list(prompts)
    if not mask_reading(model).fits and not (entries and all("concat_mask" in entry for entry in entries)):
        raise ValueError(
            f"{type(model.model).__name__} takes known frames as a picture beside the latents, and not from a mask "
            "alone: give both prompts through core's image-to-video node of this model, or leave the mask out"
        )


def _asked(base: Any) -> MaskReading:
    noise, mask, shapes = _example(base)
    before = getattr(base, "latent_shapes", None)
    base.latent_shapes = shapes  # newer hosts set it when a run begins, and models with sound go by it
    try:
        return _read(base, noise, mask, shapes)
    finally:
        base.latent_shapes = before


def _read(base: Any, noise: Tensor, mask: Tensor, shapes: Any) -> MaskReading:
    without, conds = (_conds(base, noise, one, shapes) for one in (None, mask))
    pictures = [one.get("c_concat") for one in (without, conds)]
    fits = pictures[0] is None or pictures[1] is None or pictures[0].cond.shape == pictures[1].cond.shape
    return MaskReading(_takes_levels(base, noise, conds), _shows_clean(base, noise, mask), fits)


def _example(base: Any) -> tuple[Tensor, Tensor, list[tuple[int, ...]] | None]:
    """Empty latents and their mask, the first frame known; with sound as one tensor, and the shapes of both."""
    with_sound = FORMATS.get(type(base.latent_format).__name__)
    noise = torch.zeros(1, with_sound or base.latent_format.latent_channels, FRAMES, SIDE, SIDE)
    mask = torch.ones_like(noise)
    mask[:, :, 0] = 0
    layout = None if with_sound is None else layout_beside(with_sound)
    if layout is None:
        return noise, mask, None
    sound = layout.given(torch.zeros(1, layout.channels, FRAMES, layout.height, 1))
    shapes = [tuple(noise.shape), tuple(sound.shape)]
    return joint([noise, sound]), joint([mask, torch.ones_like(sound)]), shapes


def _conds(base: Any, noise: Tensor, mask: Tensor | None, shapes: Any) -> dict[str, Any]:
    """What core would hand to the network besides text."""
    given = {"noise": noise, "device": noise.device, "pooled_output": torch.zeros(1, 768), "seed": 0}
    if shapes is not None:
        given["latent_shapes"] = shapes
    found: dict[str, Any] = base.extra_conds(**given, **({} if mask is None else {"denoise_mask": mask}))
    return found


def _takes_levels(base: Any, noise: Tensor, conds: dict[str, Any]) -> bool:
    if "denoise_mask" not in conds:
        return False
    level = torch.tensor([LEVEL])
    read = base.process_timestep(level, x=noise, **{name: value.cond for name, value in conds.items()})
    first = read[0] if isinstance(read, tuple) else read
    return first is level or bool((first == 0).any())  # a network that gets mask and level alike reads both itself


def _shows_clean(base: Any, noise: Tensor, mask: Tensor) -> bool:
    sigma = base.model_sampling.percent_to_sigma(LEVEL)
    shown = base.scale_latent_inpaint(
        sigma=torch.tensor([float(sigma)]), noise=torch.ones_like(noise), latent_image=noise, x=noise, denoise_mask=mask
    )
    return not bool(shown.any())
