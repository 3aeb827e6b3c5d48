"""Distil a DiT: the run of `train dit` on steps of a teacher's way in place of noised clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...checkpoints import Checkpoint
from ...clips.cache import LatentCache
from ...transformer.compiled import compile_blocks
from ...transformer.dit import DiT
from ...vae.autoencoder import VideoVAE
from ..dit import train as dit
from ..dit.recipe import Recipe
from .settings import Distillation
from .trajectories import Teacher


def train(
    settings: Distillation,
    cache: LatentCache,
    held_out: LatentCache,
    empty: Tensor,
    vae: VideoVAE,
    out: Path,
    teacher: Checkpoint,
    device: str = "cpu",
    *,
    log: str = "",
) -> DiT:
    """Distil a teacher; returns the student with averaged weights. A run folder with a checkpoint is continued.

    Clips give the captions, the sizes and what is known of a video; what is to be learned comes from the teacher.
    The student begins as its teacher, or, with settings.lora, is the teacher with adapters. Arguments and files are
    those of `train dit`; the files say in their headers that they are for few steps without guidance.
    ValueError for a teacher that cannot be distilled.
    """
    config = teacher.dit_config
    if config is None:
        raise ValueError("the checkpoint of --teacher holds no DiT, only a VAE: choose one that holds both")
    if config.prediction == "eps":
        raise ValueError(
            "a model that predicts eps knows nothing at pure noise, where a student begins: choose a teacher that "
            "predicts velocity"
        )
    settings = replace(settings, text=bool(config.context_dim), classes=teacher.class_names)
    model = teacher.dit(getattr(torch, settings.dtype)).to(device)
    if settings.compile:
        compile_blocks(model.blocks)
    return dit.train(
        settings,
        cache,
        held_out,
        empty,
        vae,
        out,
        teacher,
        device,
        log=log,
        recipe=recipe(settings, Teacher.of(model, empty, settings)),
    )


def recipe(settings: Distillation, teacher: Teacher) -> Recipe:
    """Lessons from the teacher's ways, and a student that is run in few steps without guidance."""
    best = settings.recommended
    return Recipe(teacher.segments, best, {"recommended": best.entry(), "shift": best.shift})
