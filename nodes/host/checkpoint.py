"""From a checkpoint's name to core objects."""

from __future__ import annotations

from typing import Any

import torch

from ...models.checkpoints import Checkpoint, known_sizes, load_checkpoint
from ...models.trained_on import TrainedOn
from .folders import checkpoint_path
from .model.model import CLASS_NAMES, RGB_FIT_KEYS, TRAINED_ON, build_model
from .vae.pieces import SpacetimeVAE, preview_colours
from .words.text_encoder import build_clip


def load_objects(name: str, dtype: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a checkpoint. ValueError says what is wrong with the file and what to do."""
    return build_objects(load_checkpoint(checkpoint_path(name)), name, dtype)


def build_objects(checkpoint: Checkpoint, name: str, dtype: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a checkpoint that has been read."""
    if checkpoint.dit_config is None:
        raise ValueError(f"{name} holds a VAE but no transformer: choose a checkpoint that holds both")
    # outside inference mode, so that training nodes can use the weights too
    with torch.inference_mode(False):
        network = checkpoint.vae()
        meta = dict(checkpoint.meta)
        if not all(key in meta for key in RGB_FIT_KEYS):
            meta.update(zip(RGB_FIT_KEYS, preview_colours(network), strict=True))
        model = build_model(checkpoint.dit_config, checkpoint.dit_state, meta, dtype)
        model.set_attachments(TRAINED_ON, known_sizes(meta))
        model.set_attachments(CLASS_NAMES, checkpoint.class_names)
        return model, build_clip(), SpacetimeVAE(network)


def trained_on(model: Any) -> TrainedOn | None:
    """What a MODEL of ours was trained on; None for other models and where its file does not say it."""
    known: TrainedOn | None = model.get_attachment(TRAINED_ON)
    return known
