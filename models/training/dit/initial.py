"""The DiT that a run trains: fresh or continued, with class labels, without text, or with adapters only."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...checkpoints import Checkpoint
from ...transformer.config import PRESETS
from ...transformer.dit import DiT
from .lora import add_adapters
from .settings import Beginning


def build(settings: Beginning, init: Checkpoint | None) -> DiT:
    """The model at the start of a run, fp32. ValueError when `init` cannot be what the settings ask for."""
    if init is None:
        if settings.lora:
            raise ValueError("a LoRA is an addition to a trained model: name that model's checkpoint with --init")
        config = replace(PRESETS[settings.preset], num_classes=len(settings.classes))
        return DiT(config if settings.text else replace(config, context_dim=0)).initialise()
    if init.dit_config is None:
        raise ValueError("the checkpoint of --init holds no DiT, only a VAE: choose one that holds both")
    config = init.dit_config
    if config.learned_variance:
        raise ValueError(
            "the checkpoint of --init predicts its own variance too (iDDPM), which is not trained here: choose another"
        )
    if settings.text != bool(config.context_dim):
        raise ValueError("with or without text is settled when a model is begun: leave out --no-text, or --init")
    model = init.dit() if not added_classes(settings, init) else with_classes(init, len(settings.classes))
    if settings.lora:
        add_adapters(model, settings.lora, settings.lora_layers)
    return model.train()


def added_classes(settings: Beginning, init: Checkpoint) -> bool:
    """Whether classes are new to the model. ValueError when it knows others."""
    known = init.class_names
    if not settings.classes or known == settings.classes:
        return False
    if known:
        raise ValueError(f"this model knows the classes {', '.join(known)}; these are {', '.join(settings.classes)}")
    if settings.lora:
        raise ValueError("a LoRA cannot teach a model its first classes: leave out --classes, or --lora")
    return True


def with_classes(init: Checkpoint, count: int) -> DiT:
    """A model without classes with a table of them that changes nothing yet."""
    assert init.dit_config is not None
    table = torch.zeros(count + 1, init.dit_config.hidden_size)
    config = replace(init.dit_config, num_classes=count)
    return Checkpoint(config, {**init.dit_state, "label_embedder": table}).dit()


def class_names(wanted: bool, found: tuple[str, ...], init: Checkpoint | None) -> tuple[str, ...]:
    """The classes of a run: those that `init` knows, else those `found` among the clips."""
    if not wanted:
        return ()
    if not found:
        raise ValueError(
            "the cached clips name no classes: put your videos into one sub-folder per class and cache them anew, "
            "into an empty folder"
        )
    known = init.class_names if init else ()
    unknown = sorted(set(found) - set(known)) if known else []
    if unknown:
        raise ValueError(f"the model of --init does not know the class {unknown[0]}, only {', '.join(known)}")
    return known or found
