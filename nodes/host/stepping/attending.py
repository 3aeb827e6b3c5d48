"""Look at the attention of any MODEL while it makes one step, through core's override of attention."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import comfy.patcher_extension
import comfy.samplers
from torch import Tensor

from ....models.patches import Grid, Tokens
from ....models.transformer.attended import Attended
from ..model.recommended import patch_of
from ..strips import hidden
from .goal import steps_goal
from .stepper import advance

OVERRIDE = "optimized_attention_override"
POSITIVE = 0  # core's number for it in cond_or_uncond
KEPT = 4  # looks at runs that are kept for questions; the oldest goes first
_looks: OrderedDict[str, tuple[Attended, tuple[Grid, ...]]] = OrderedDict()


def attended(tokens: Tokens, guider: Any) -> tuple[Attended | None, str]:
    """What each patch attends to in the step of a run that comes next, and why there is nothing where there is none.

    The step is made by core's euler and thrown away: the tokens and their run stay as they are.
    """
    if tokens.trajectory is None:
        return None, "no attention: these patches are in no run yet, put Forward Diffusion before this node"
    if tokens.trajectory.done:
        return None, "no attention: this run is complete, connect the tokens of a step before its end"
    own = patch_of(guider.model_patcher)
    if own is not None and own != tokens.patch:
        sides = " x ".join(map(str, own))
        return None, f"no attention: this model cuts patches of {sides} for itself, connect it to Patchify"
    looking = _Looking(tokens, guider)
    with hidden():
        advance(tokens, looking.guider, comfy.samplers.sampler_object("euler"), steps_goal(1), lambda _text: None)
    if not looking.found.blocks:
        return None, (
            f"no attention: in no block of this model do the {sum(tokens.lengths)} patches of the video attend to each "
            "other alone, so what they look at cannot be told apart from its text"
        )
    return looking.found, ""


class _Looking:
    """A copy of a GUIDER whose model hands the queries and keys of its first positive forward pass to `found`."""

    def __init__(self, tokens: Tokens, guider: Any) -> None:
        self.found = Attended(tokens.lengths)
        self._watching = self._done = False
        patcher = guider.model_patcher.clone()
        options = patcher.model_options.setdefault("transformer_options", {})
        self._before = options.get(OVERRIDE)
        options[OVERRIDE] = self._attend
        patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "spacetime_looking", self._forward)
        self.guider = copy.copy(guider)
        self.guider.model_patcher, self.guider.model_options = patcher, patcher.model_options

    def __deepcopy__(self, _memo: Any) -> _Looking:
        """Core copies what hangs in a model's options: what is found stays here all the same."""
        return self

    def _forward(self, executor: Any, x: Tensor, t: Any, *rest: Any, **named: Any) -> Any:
        asked = _options(rest, named).get("cond_or_uncond", [POSITIVE])
        self._watching = not self._done and POSITIVE in asked
        try:
            return executor(x, t, *rest, **named)
        finally:
            self._done = self._done or self._watching
            self._watching = False

    def _attend(self, attention: Any, q: Tensor, k: Tensor, *rest: Any, **named: Any) -> Any:
        if self._watching:
            self._look(q, k, int(named["heads"] if "heads" in named else rest[1]), named)
        if self._before is not None:
            return self._before(attention, q, k, *rest, **named)
        return attention(q, k, *rest, **named)

    def _look(self, q: Tensor, k: Tensor, heads: int, named: Mapping[str, Any]) -> None:
        reshaped = bool(named.get("skip_reshape"))
        axis = -2 if reshaped else 1
        if not self.found.takes(q.shape[axis], k.shape[axis]):
            return
        asked = named.get("transformer_options", {}).get("cond_or_uncond", [POSITIVE])
        row = asked.index(POSITIVE) * (q.shape[0] // len(asked))
        parts = [x[row] if reshaped else x[row].unflatten(-1, (heads, -1)).transpose(0, 1) for x in (q, k)]
        self.found.add(*parts)


def _options(rest: tuple[Any, ...], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """transformer_options among the arguments of apply_model, by place in some releases."""
    given = named.get("transformer_options")
    if given is None:
        given = next((one for one in rest if isinstance(one, dict) and "cond_or_uncond" in one), None)
    return given or {}


def kept_look(found: Attended, grids: tuple[Grid, ...]) -> str:
    """Keep a look at clips of these grids for questions, and give the name to ask by."""
    name = uuid4().hex
    _looks[name] = found, grids
    while len(_looks) > KEPT:
        _looks.popitem(last=False)
    return name


def look_of(name: str) -> tuple[Attended, tuple[Grid, ...]]:
    """A look and the grids of its clips. ValueError where it is not kept any more."""
    if name not in _looks:
        raise ValueError("the attention of this run is not kept any more: run the workflow again, with another seed")
    return _looks[name]
