"""The streams of a run as one tensor: picture and sound as core's samplers see them, a picture alone as it is.

A trajectory holds them like that, so that whatever it does to latents it does to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....models.patches import Tokens, change_mask, from_patches, to_patches, unpatchify
from ....models.streams import SoundLayout, apart, joint, layout_beside
from ..sounding import is_nested, nested


def shapes_of(tokens: Tokens) -> list[tuple[int, ...]]:
    """Shapes of the latents of all streams, as their family lays them out."""
    return [tuple(stream.shape) for stream in _streams(tokens, [one.values for one in _all(tokens)])]


def latents_of(tokens: Tokens) -> Tensor:
    """The latents of all streams: (B, C, T, H, W) of a picture alone, else (B, 1, N)."""
    if not tokens.streams:
        return unpatchify(tokens)
    return joint(_streams(tokens, [one.values for one in _all(tokens)]))


def reference_of(tokens: Tokens) -> Tensor | None:
    """What kept places keep, of all streams; None before a run."""
    kept = [one.reference for one in _all(tokens)]
    known = [one for one in kept if one is not None]
    return joint(_streams(tokens, known)) if len(known) == len(kept) else None


def masks_of(tokens: Tokens) -> Tensor | None:
    """The change level of each latent: (B, 1, T, H, W), or of both streams like their latents, (B, 1, N)."""
    if not tokens.streams or all(one.change is None for one in _all(tokens)):
        return change_mask(tokens)
    whole = []
    for one in _all(tokens):
        level = change_mask(one)
        latents = unpatchify(one)
        whole.append(torch.ones_like(latents) if level is None else level.expand_as(latents))
    return joint([whole[0], *(_layout(tokens).given(one) for one in whole[1:])])


def shown(tokens: Tokens) -> Tensor:
    """What tokens show, to notice edits: patches of a picture alone, the latents of all streams otherwise."""
    return tokens.values if not tokens.streams else latents_of(tokens)


def was_shown(tokens: Tokens, values: Tensor) -> Tensor:
    """The latents of what tokens once showed."""
    return values if tokens.streams else from_patches(values, tokens.grids[0], tokens.patch)


def with_latents(tokens: Tokens, latents: Tensor) -> Tokens:
    """Tokens of these latents of all streams."""
    if not tokens.streams:
        return tokens.with_values(to_patches(latents, tokens.patch))
    picture, *others = apart(latents, shapes_of(tokens))
    layout = _layout(tokens)
    streams = tuple(
        stream.with_values(to_patches(layout.seen(other), stream.patch))
        for stream, other in zip(tokens.streams, others, strict=True)
    )
    return replace(tokens, values=to_patches(picture, tokens.patch), streams=streams)


def begun(tokens: Tokens) -> Tokens:
    """Tokens whose present values are what kept places keep."""
    streams = tuple(replace(stream, reference=stream.values) for stream in tokens.streams)
    return replace(tokens, reference=tokens.values, streams=streams)


def for_core(latents: Tensor | None, shapes: Sequence[Sequence[int]]) -> Any:
    """Latents or masks of all streams as core takes them: a tensor, or its tensor of several."""
    return None if latents is None else nested(apart(latents, shapes))


def from_core(value: Any) -> Tensor:
    """What core gives, as one tensor."""
    return joint(value.unbind() if is_nested(value) else [value])


def _all(tokens: Tokens) -> tuple[Tokens, ...]:
    return (tokens, *tokens.streams)


def _layout(tokens: Tokens) -> SoundLayout:
    layout = layout_beside(tokens.channels)
    if layout is None:
        raise ValueError(f"latents of {tokens.channels} channels are of no family with sound")
    return layout


def _streams(tokens: Tokens, values: Sequence[Tensor]) -> list[Tensor]:
    latents = [unpatchify(one.with_values(value)) for one, value in zip(_all(tokens), values, strict=True)]
    if len(latents) == 1:
        return latents
    return [latents[0], *(_layout(tokens).given(one) for one in latents[1:])]
