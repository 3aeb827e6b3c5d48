"""History guidance on a core MODEL: a third prediction at every step, for which the known places are noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.conds
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....models.guidance import hidden_history, history_guidance
from ....models.streams import apart, joint
from .levels import MASKS
from .masks import mask_reading

KEY = "spacetime_history"  # attachment of a MODEL: the function that is in its options
SEED = 0x5EED  # of the noise that stands for known places; it is the same at all steps


def with_history(model: Any, scale: float) -> Any:
    """A clone of a MODEL with history guidance instead of what it had of it. ValueError for one noise level per video.

    Runs without a noise mask stay as they are.
    """
    if not mask_reading(model).levels:
        raise ValueError(
            f"{type(model.model).__name__} has one noise level for the whole video, so known frames cannot be hidden "
            "from it: history guidance works with models that take one for each place or frame, such as this pack's, "
            "LTX-Video, LTX-2, Wan 2.2 5B and Cosmos Predict 2"
        )
    patched = model.clone()
    earlier = patched.get_attachment(KEY)
    functions = patched.model_options.get("sampler_post_cfg_function", [])
    patched.model_options["sampler_post_cfg_function"] = [function for function in functions if function is not earlier]
    patched.set_attachments(KEY, None)
    patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    if not scale:
        return patched
    run = _Run()

    def sampler_sample(executor: Any, *args: Any) -> Any:
        run.forget()
        try:
            return executor(*args)
        finally:
            run.forget()

    def guide(args: dict[str, Any]) -> Tensor:
        denoised, without = args["denoised"], _without_history(args, run)
        if without is None:
            return denoised
        return history_guidance(denoised, args["cond_denoised"], without, scale)

    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, sampler_sample)
    patched.set_model_sampler_post_cfg_function(guide)
    patched.set_attachments(KEY, guide)
    return patched


class _Run:
    """What the steps of a sampling run share, so that none of it goes to a GPU, or comes from one, at each of them."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A run begins, or is over."""
        self._change: Tensor | None = None
        self._known = False
        self._noise: Tensor | None = None

    def knows(self, change: Tensor) -> bool:
        """Whether a mask (B, C, ...) has known places."""
        if change is not self._change:
            self._change, self._known = change, bool((change == 0).any())
        return self._known

    def noise(self, x: Tensor) -> Tensor:
        """The noise like x that stands for known places."""
        found = self._noise
        if found is None or (found.shape, found.device, found.dtype) != (x.shape, x.device, x.dtype):
            self._noise = found = torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED)).to(x)
        return found


def _without_history(args: Mapping[str, Any], run: _Run) -> Tensor | None:
    """What the model predicts for the same prompt where known places are noise; None where nothing is known."""
    x, sigma, change = args["input"], args["sigma"], _change(args["cond"], args["input"])
    if change is None or not run.knows(change):
        return None
    state, hidden = hidden_history(x, change.to(x), sigma, run.noise(x))
    entries = [
        {**entry, "model_conds": {**entry["model_conds"], **_masks(hidden, entry["model_conds"])}}
        for entry in args["cond"]
    ]
    (prediction,) = comfy.samplers.calc_cond_batch(args["model"], [entries], state, sigma, args["model_options"])
    return prediction


def _change(cond: Sequence[Mapping[str, Any]], x: Tensor) -> Tensor | None:
    """The mask of the run, as its conditioning carries it; of picture and sound like x where it has both."""
    for entry in cond or ():
        conds = entry.get("model_conds", {})
        found = [conds.get(name) for name in MASKS]
        shapes = _shapes(conds)
        if shapes is None and found[0] is not None:
            mask: Tensor = found[0].cond
            return mask
        if shapes is not None and any(one is not None for one in found):
            whole = [torch.ones(tuple(shape)).to(x) for shape in shapes]
            given = zip(whole, found, strict=True)
            return joint([ones if one is None else one.cond.to(x).expand_as(ones).contiguous() for ones, one in given])
    return None


def _masks(hidden: Tensor, conds: Mapping[str, Any]) -> dict[str, Any]:
    """A mask as the conditions that a model reads it from."""
    shapes = _shapes(conds)
    if shapes is None:
        return {MASKS[0]: comfy.conds.CONDRegular(hidden)}
    return {name: comfy.conds.CONDRegular(one) for name, one in zip(MASKS, apart(hidden, shapes), strict=True)}


def _shapes(conds: Mapping[str, Any]) -> Any:
    """Shapes of the streams of a run of picture and sound; None for pictures alone."""
    found = conds.get("latent_shapes")
    return found.cond if found is not None and len(found.cond) > 1 else None
