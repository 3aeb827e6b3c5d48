"""What a DiT makes of held-out captions while it trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import solvers
from ...clips.cache import LatentCache, stack_text
from ...generate import text_denoiser
from ...guidance import Guidance
from ...pixels import to_uint8
from ...recommended import Recommended
from ...schedules import highest_sigma, sigma_of, sigmas
from ...solvers import Solver
from ...transformer.dit import DiT
from ...vae.autoencoder import VideoVAE
from ..run.folder import Run, generator, strip
from .batches import class_labels


@torch.no_grad()
def sample(
    model: DiT,
    texts: Sequence[Tensor],
    empty: Tensor,
    shape: tuple[int, int, int, int],
    *,
    labels: Tensor | None = None,
    steps: int = 24,
    cfg: float = 2.0,
    shift: float = 2.0,
    seed: int = 0,
    cyclic: bool = False,
) -> Tensor:
    """Latents (B, C, T, H, W) for texts (L_i, E) and class labels (B,), as `generate` makes them, by Euler steps:
    enough to see how a run is doing."""
    device = next(model.parameters()).device
    classes = None if labels is None else labels.to(device)
    no_class = None if classes is None else torch.full_like(classes, model.config.num_classes)
    conditional = text_denoiser(model, stack_text(texts), shape[1:], labels=classes, cyclic=cyclic)
    no_text = stack_text([empty] * len(texts))
    unconditional = text_denoiser(model, no_text, shape[1:], labels=no_class, cyclic=cyclic)
    denoise = Guidance(scale=cfg).denoiser(conditional, unconditional, sigma_of(shift))
    levels = sigmas("linear", steps, shift=shift, sigma_max=highest_sigma(model.config.prediction))
    noise = torch.randn(len(texts), *shape, generator=generator(seed, 0)).to(device)
    return solvers.sample(Solver(name="euler"), denoise, noise, levels)


def save_samples(
    run: Run, best: DiT, vae: VideoVAE, held_out: LatentCache, empty: Tensor, step: int, shown: Recommended
) -> None:
    """A strip of what a model makes of held-out captions with these settings, decoded where the VAE lies."""
    size = next(iter(held_out.buckets))
    rows = held_out.buckets[size][:10]
    texts = [texts[0] for _, texts in rows]
    labels = class_labels(held_out.classes[size][:10], run.meta.get("classes", ()))
    shape: tuple[int, int, int, int] = tuple(rows[0][0].shape)  # type: ignore[assignment]
    latents = sample(
        best,
        texts,
        empty,
        shape,
        labels=labels,
        cyclic=size.endswith("c"),
        steps=shown.steps,
        cfg=shown.cfg,
        shift=shown.shift,
    )
    weight = vae.decoder.linear.weight
    videos = (vae.decode(clip[None].to(weight), cyclic=size.endswith("c"))[0] for clip in latents)
    strip([to_uint8(video) for video in videos], run.sample_file(step))
