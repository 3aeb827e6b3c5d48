"""From a checkpoint's name to core objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...models.checkpoints import Checkpoint, known_sizes, load_checkpoint, recommended_of
from ...models.trained_on import TrainedOn
from .folders import checkpoint_path
from .model.model import CLASS_NAMES, RGB_FIT_KEYS, TRAINED_ON, build_model
from .model.recommended import RECOMMENDED
from .vae.pieces import SpacetimeVAE, preview_colours
from .words.text_encoder import build_text_encoder


@dataclass(frozen=True)
class Source:
    """A checkpoint's file as it was when it was read. Core builds models from it once more, for example for training.

    Newer releases do so for Train LoRA, for TorchCompile and scheduled LoRAs where weights stream to the GPU ("dynamic
    VRAM"), and for a second GPU: they call `cached_patcher_init[0](*cached_patcher_init[1])` of a patcher.
    """

    path: Path
    name: str
    dtype: str
    stamp: tuple[int, int]
    few_steps: bool = False

    @classmethod
    def of(cls, path: Path, name: str, dtype: str, *, few_steps: bool = False) -> Source:
        """The file as it is now; few_steps: of its two forms of the transformer the one for few steps."""
        stat = path.stat()
        return cls(path, name, dtype, (stat.st_mtime_ns, stat.st_size), few_steps)

    def read(self) -> Checkpoint:
        """What it holds. ValueError when it has changed since, for the new weights would not be those of the MODEL."""
        if not self.path.exists() or self != Source.of(self.path, self.name, self.dtype, few_steps=self.few_steps):
            raise ValueError(
                f"{self.name} was changed or removed after it had been loaded, and ComfyUI has to read it once more: "
                "run the workflow again, so that it is loaded anew"
            )
        found = load_checkpoint(self.path)
        return found.for_few_steps() if self.few_steps else found


def load_objects(name: str, dtype: str, *, few_steps: bool = False) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a checkpoint. ValueError says what is wrong with the file and what to do."""
    source = Source.of(checkpoint_path(name), name, dtype, few_steps=few_steps)
    return build_objects(source.read(), source)


def build_objects(checkpoint: Checkpoint, source: Source) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a checkpoint that has been read."""
    return build_dit(checkpoint, source), host_text_encoder(), build_vae(checkpoint, source)


def host_text_encoder(*, disable_dynamic: bool = False) -> Any:
    """The text encoder as a core CLIP."""
    with torch.inference_mode(False):
        encoder = build_text_encoder(disable_dynamic=disable_dynamic)
    encoder.patcher.cached_patcher_init = (_text_encoder_again, ())
    return encoder


def build_dit(checkpoint: Checkpoint, source: Source, *, disable_dynamic: bool = False) -> Any:
    """MODEL of a checkpoint that has been read."""
    if checkpoint.dit_config is None:
        raise ValueError(f"{source.name} holds a VAE but no transformer: choose a checkpoint that holds both")
    # outside inference mode, so that training nodes can use the weights too
    with torch.inference_mode(False):
        meta = dict(checkpoint.meta)
        if not all(key in meta for key in RGB_FIT_KEYS):
            meta.update(zip(RGB_FIT_KEYS, preview_colours(checkpoint.vae()), strict=True))
        model = build_model(
            checkpoint.dit_config, checkpoint.dit_state, meta, source.dtype, disable_dynamic=disable_dynamic
        )
    model.set_attachments(TRAINED_ON, known_sizes(meta))
    model.set_attachments(RECOMMENDED, recommended_of(meta))
    model.set_attachments(CLASS_NAMES, checkpoint.class_names)
    model.cached_patcher_init = (_dit_again, (source,))
    return model


def build_vae(checkpoint: Checkpoint, source: Source) -> SpacetimeVAE:
    """VAE of a checkpoint that has been read."""
    with torch.inference_mode(False):
        vae = SpacetimeVAE(checkpoint.vae())
    vae.patcher.cached_patcher_init = (_vae_again, (source,))
    return vae


def load_vae(path: Path) -> SpacetimeVAE:
    """The VAE of a checkpoint as a core VAE."""
    return build_vae(load_checkpoint(path), Source.of(path, path.name, "fp32"))


# core passes disable_dynamic=True where it wants a patcher whose weights do not stream


def _dit_again(source: Source, *, disable_dynamic: bool = False) -> Any:
    return build_dit(source.read(), source, disable_dynamic=disable_dynamic)


def _text_encoder_again(*, disable_dynamic: bool = False) -> Any:
    return host_text_encoder(disable_dynamic=disable_dynamic).patcher


def _vae_again(source: Source, *, disable_dynamic: bool = False) -> Any:  # noqa: ARG001 - it never streams
    return build_vae(source.read(), source).patcher


def trained_on(model: Any) -> TrainedOn | None:
    """What a MODEL of ours was trained on; None for other models and where its file does not say it."""
    known: TrainedOn | None = model.get_attachment(TRAINED_ON)
    return known
