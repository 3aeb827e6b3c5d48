"""A training step whose patches go past blocks, against one in which none does. A part of the training benchmark."""

from typing import Any

import torch

from ...models.training.dit.batches import Batch, routed
from ...models.training.dit.settings import DiTTraining
from ...models.training.dit.train import batch_loss
from ...models.training.run.folder import generator
from ...models.transformer.config import PRESETS
from ...models.transformer.dit import DiT
from ...models.transformer.routing import blocks_past
from .packed_steps import by_size, clip_batches
from .timing import by_turns

CLIP, COUNT = (9, 12, 12), 8  # latents of 96 x 96 x 33
SHARE = 0.5
ROUNDS = 3


def routed_row(dtype: torch.dtype) -> dict[str, Any]:
    """Half of the patches past half of the blocks."""
    torch.manual_seed(0)
    model, settings = DiT(PRESETS["toy"]).initialise().to(dtype), DiTTraining()
    model.routed = blocks_past(len(model.blocks), settings.route_start, settings.route_end)
    (plain,) = by_size(clip_batches({CLIP: COUNT}))
    other = routed(plain, SHARE, generator(0, 0))

    def run(batch: Batch) -> None:
        batch_loss(model, batch).backward()
        model.zero_grad(set_to_none=True)

    one, whole = by_turns([lambda: run(other), lambda: run(plain)], ROUNDS)
    note = (
        f"{SHARE:.0%} of the patches past {len(model.routed)} of {len(model.blocks)} blocks, against none; {COUNT} "
        f"clips of 96x96x33, toy preset, {str(dtype).removeprefix('torch.')}, without the optimiser"
    )
    return {"name": "routed", "ours": one, "reference": whole, "ratio": whole / one, "note": note}
