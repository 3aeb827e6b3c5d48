"""What the editor shows of patches: grids, levels, sizes and colours, as little text as that takes."""

from __future__ import annotations

import base64
from typing import Any

import torch
from torch import Tensor

from ..models.components import principal_components, sizes
from ..models.patches import Tokens

KEY = "spacetime_patches"
MOST = 1 << 16  # patches; more are not shown: a megabyte of text for each run


def patches_shown(tokens: Tokens) -> dict[str, Any]:
    """The `ui` of a node that gives tokens, of a batch's first clip; empty for more patches than are shown."""
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
    }
    return {KEY: [shown]}


def packed(values: Tensor) -> str:
    """Numbers in 0..1 as bytes 0..255, in base64."""
    return base64.b64encode((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes()).decode()
