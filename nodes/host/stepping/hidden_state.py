"""State that the host keeps outside the sampler during a run, taken at one model call and put back before it.

Core's EasyCache and LazyCache hold a cache on the model options and reset it whenever sampling begins; scheduled hooks
count the steps that a keyframe has lasted; a model or patch may draw from torch's global generators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .randomness import RngState, rng_state, set_rng_state

# settings of a cache holder, which follow the model that is connected now
CACHE_SETTINGS = frozenset(
    {"name", "reuse_threshold", "start_percent", "end_percent", "subsample_factor", "offload_cache_diff", "verbose"}
    | {"start_t", "end_t", "output_channels", "allow_mismatch", "cut_from_start"}
)
KEYFRAME_STATE = ("_current_used_steps", "_current_index", "_current_strength", "_curr_t")


@dataclass(frozen=True)
class HiddenState:
    """A snapshot of plain values. Conditionings and keyframes are named by their place, since a rebuilt guider has
    others in the same places.
    """

    rng: RngState
    cache: dict[str, Any] | None
    cond_ids: list[Any]
    keyframes: list[dict[str, Any]]

    @classmethod
    def take(cls, guider: Any, model_options: dict[str, Any]) -> HiddenState:
        """Copy the state of a guider in the middle of its sample()."""
        holder = _cache_holder(model_options)
        cache = None
        if holder is not None:
            cache = {k: _moved(v, "cpu") for k, v in vars(holder).items() if k not in CACHE_SETTINGS}
        return cls(rng_state(), cache, _cond_ids(guider), [_frame_state(group) for group in _keyframes(guider)])

    def put_back(self, guider: Any, model_options: dict[str, Any], device: torch.device) -> None:
        """Restore it in a guider that has just begun to sample; parts that it no longer has are left out."""
        holder = _cache_holder(model_options)
        ids = _cond_ids(guider)
        if holder is not None and self.cache is not None and len(ids) == len(self.cond_ids):
            renamed = dict(zip(self.cond_ids, ids, strict=True))
            there = {k: v for k, v in self.cache.items() if k in vars(holder) and k not in CACHE_SETTINGS}
            vars(holder).update({k: _renamed(_moved(v, device), renamed) for k, v in there.items()})
        groups = _keyframes(guider)
        if len(groups) == len(self.keyframes):
            for group, state in zip(groups, self.keyframes, strict=True):
                _set_frame_state(group, state)
        set_rng_state(self.rng)


def _cache_holder(model_options: dict[str, Any]) -> Any:
    return model_options.get("transformer_options", {}).get("easycache")


def _conds(guider: Any) -> list[dict[str, Any]]:
    conds = getattr(guider, "conds", {})
    return [cond for name in sorted(conds) for cond in conds[name]]


def _cond_ids(guider: Any) -> list[Any]:
    return [cond.get("uuid") for cond in _conds(guider)]


def _keyframes(guider: Any) -> list[Any]:
    hooks = [hook for cond in _conds(guider) if cond.get("hooks") is not None for hook in cond["hooks"].hooks]
    return [hook.hook_keyframe for hook in hooks if getattr(hook, "hook_keyframe", None) is not None]


def _frame_state(group: Any) -> dict[str, Any]:
    current = getattr(group, "_current_keyframe", None)
    place = next((i for i, one in enumerate(group.keyframes) if one is current), None)
    return {"place": place} | {name: getattr(group, name, None) for name in KEYFRAME_STATE}


def _set_frame_state(group: Any, state: dict[str, Any]) -> None:
    place = state["place"]
    if place is not None and not 0 <= place < len(group.keyframes):
        return  # other keyframes than those that were counted
    group._current_keyframe = None if place is None else group.keyframes[place]
    for name in KEYFRAME_STATE:
        setattr(group, name, state[name])


def _moved(value: Any, device: torch.device | str) -> Any:
    """Tensors on another device, containers copied: the holder goes on changing its own."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value


def _renamed(value: Any, names: dict[Any, Any]) -> Any:
    """Replace conditioning ids in the cache's entries."""
    if isinstance(value, dict):
        return {names.get(key, key): item for key, item in value.items()}
    return names.get(value, value) if type(value).__name__ == "UUID" else value
