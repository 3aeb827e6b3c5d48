"""What the editor shows of patches: grids, levels, sizes and colours, as little text as that takes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from ..models.components import principal_components, sizes
from ..models.patches import Patch, Tokens

KEY = "spacetime_patches"
MOST = 1 << 16  # patches; more are not shown: a megabyte of text for each run
Latent = Callable[[], dict[str, Any]]


def patches_shown(
    tokens: Tokens,
    *,
    model: Any = None,
    vae: Any = None,
    guess: Latent | None = None,
    state: Latent | None = None,
    attention: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The `ui` of a node that gives tokens, of a batch's first clip; empty for more patches than are shown.

    model, vae   by which pictures are made of `guess` and `state`, the latents of a run, for the space under the grid
    attention    what can be asked of it
    """
    if tokens.values.shape[1] > MOST:
        return {}
    values = tokens.values[0].detach().float().cpu()  # once: each look at a device waits for it
    if not torch.isfinite(values).all():
        return {}
    run = tokens.trajectory
    sigma = 1.0 if run is None else float(run.sigma)
    change = tokens.patch_change
    level = torch.ones(len(values)) if change is None else change[0].float().cpu()
    components, size = principal_components(values), sizes(values)
    top = float(size.max())
    shown = {
        "grids": [list(grid) for grid in tokens.grids],
        "patch": [*tokens.patch, tokens.channels],
        "sigma": None if run is None else sigma,
        "levels": packed(level * min(sigma, 1.0)),
        "sizes": packed(size / top if top > 0 else size),
        "largest": top,
        "colours": packed(components.colours.flatten()),
        "shares": list(components.shares),
        "pictures": pictures(tokens, model, vae, guess, state),
        "attention": attention,
    }
    return {KEY: [shown]}


def levels_shown(mask: Tensor, patch: Patch) -> dict[str, Any]:
    """The `ui` of a node that gives a mask (B, 1, T, H, W), of a batch's first clip: the mean level of each patch.

    A patch that the clip's edge cuts counts with what lies inside. Empty for more patches than are shown.
    """
    counts = [-(-size // side) for size, side in zip(mask.shape[2:], patch, strict=True)]
    if counts[0] * counts[1] * counts[2] > MOST:
        return {}
    first = mask[:1].detach().float().cpu()
    level = avg_pool3d(first, patch, ceil_mode=True, count_include_pad=False)
    return {KEY: [{"grids": [counts], "sigma": None, "levels": packed(level.flatten())}]}


def pictures(tokens: Tokens, model: Any, vae: Any, guess: Latent | None, state: Latent | None) -> dict[str, Any]:
    """A picture for each latent frame: of the model's guess, and of the noisy state once there is one."""
    from .host.pictures import decoded, previewed

    if len(tokens.grids) != 1:
        return {}
    begun = tokens.trajectory is not None
    found = {}
    if guess is not None and vae is not None:
        found["guess"] = decoded(vae, guess())
    elif guess is not None and model is not None:
        found["guess"] = previewed(model, guess())
    if state is not None and begun and model is not None:
        found["state"] = previewed(model, state(), noisy=True)
    return {name: sprite for name, sprite in found.items() if sprite is not None}


def packed(values: Tensor) -> str:
    """Numbers in 0..1 as bytes 0..255, in base64."""
    return base64.b64encode((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes()).decode()
