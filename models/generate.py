"""From a sentence to a video: the whole path in one readable function, for scripts, benchmarks and newcomers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .checkpoints import Checkpoint, load_checkpoint, recommended_of
from .embedded import EMBEDDED
from .flow import Denoiser, split_learned_variance, to_denoised
from .geometry import OURS
from .guidance import Guidance
from .patches import Grid, to_patches
from .pixels import to_uint8
from .recommended import Recommended
from .schedules import highest_sigma, sigma_of, sigmas
from .solvers import Solver, noise_generator, sample
from .tasks.canvas import Canvas
from .tasks.prompts import contrasted
from .tasks.tiles import Tiling, in_tiles
from .text.encoder import TextEncoder, load_text_encoder
from .transformer.dit import DiT
from .transformer.shares import patch_shares
from .vae.autoencoder import VideoVAE

PLAIN = Recommended(cfg=2.0, shift=2.0, steps=24, solver="unipc")


@dataclass(frozen=True)
class Models:
    """What generation needs. The DiT and the VAE may be on any device and in any dtype; the text encoder in float32.

    best: the settings of a run where none are given.
    """

    dit: DiT
    vae: VideoVAE
    text: TextEncoder
    best: Recommended = PLAIN

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint | Path | str = EMBEDDED,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
        few_steps: bool = False,
    ) -> Models:
        """The models of a checkpoint that holds a DiT and a VAE. bf16 is several times faster on CPUs with AMX.

        few_steps: the DiT's form for few steps, and the settings for it. ValueError when the checkpoint holds none.
        """
        found = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        best = cls.best
        if few_steps:
            found = found.for_few_steps()
            best = recommended_of(found.meta) or best
        return cls(found.dit(dtype).to(device), found.vae(dtype).to(device), load_text_encoder(), best)


@torch.no_grad()
def generate(
    models: Models,
    prompts: Sequence[str],
    *,
    num_frames: int = 33,
    height: int = 96,
    width: int = 96,
    steps: int | None = None,
    cfg: float | Guidance | None = None,
    shift: float | None = None,
    schedule: str = "linear",
    solver: Solver | str | None = None,
    seed: int = 0,
    negative: str = "",
    cyclic: bool = False,
    known: Canvas | None = None,
    trained_frames: int = 0,
) -> list[NDArray[np.uint8]]:
    """One clip (F, H, W, 3) uint8 per prompt, all denoised together.

    num_frames is 1 + 4k (1: an image), or 4k for a loop (`cyclic`). Clip i starts from the noise of seed + i, whatever
    batch it is in. steps, cfg, shift and solver that are not given are those of `models.best`. `known` (from tasks/)
    says which latents are given, for one clip or for each; it sets the size.
    trained_frames: frames of the clips that the model was trained on, to extrapolate time beyond them (rope_table).
    ValueError for sizes that the models cannot take.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError(
            f"generate wants a list of prompts, such as ['a red ball rolls to the right'], not {prompts!r}"
        )
    shape = (
        OURS.latent_shape(num_frames, height, width, cyclic=cyclic) if known is None else tuple(known.latents.shape[2:])
    )
    cyclic = cyclic if known is None else known.cyclic
    best = models.best
    shift = best.shift if shift is None else shift
    levels = sigmas(
        schedule,
        best.steps if steps is None else steps,
        shift=shift,
        sigma_max=highest_sigma(models.dit.config.prediction),
    )
    trained = OURS.latents(trained_frames)
    positive = predictor(models, prompts, shape, cyclic=cyclic, known=known, trained_frames=trained)
    unguided = predictor(models, [negative] * len(prompts), shape, cyclic=cyclic, known=known, trained_frames=trained)
    cfg = best.cfg if cfg is None else cfg
    guidance = cfg if isinstance(cfg, Guidance) else Guidance(scale=cfg)

    denoise = guidance.denoiser(positive, unguided, sigma_of(shift))
    chosen = solver if isinstance(solver, Solver) else Solver(name=solver or best.solver)
    noise = torch.stack([clip_noise(models, shape, seed + i) for i in range(len(prompts))])
    latents = sample(chosen, denoise, noise, levels, generator=noise_generator(seed))
    weight = models.vae.decoder.linear.weight
    # one clip at a time, so that memory does not grow with their number
    return [to_uint8(models.vae.decode(clip[None].to(weight), cyclic=cyclic)[0]) for clip in latents]


def predictor(
    models: Models,
    prompts: Sequence[str],
    shape: Sequence[int],
    *,
    cyclic: bool = False,
    known: Canvas | None = None,
    trained_frames: int = 0,
) -> Denoiser:
    """The DiT as a denoiser of latents (B, C, *shape) for these prompts. Text and positions are prepared once."""
    dit = models.dit
    text = models.text(prompts, next(dit.parameters()).device)
    predict = text_denoiser(dit, text, shape, cyclic=cyclic, trained_frames=trained_frames)
    return predict if known is None else keeping(predict, known, dit)


def text_denoiser(
    dit: DiT,
    text: tuple[Tensor, Tensor],
    shape: Sequence[int],
    *,
    labels: Tensor | None = None,
    cyclic: bool = False,
    trained_frames: int = 0,
    lengths: Sequence[int] = (),
    shares: Tensor | None = None,
) -> Denoiser:
    """The DiT as a denoiser of latents (B, C, *shape): text is context (B, L, E) and mask (B, L), labels classes (B,).

    With shares (R, N) of patches in R texts, these stand one after the other in the text, `lengths` tokens each.

    Whatever unit it predicts in: the one place where a prediction of our DiT becomes the estimate of x0.
    """
    config, weight = dit.config, next(dit.parameters())
    grid = Grid.of(torch.empty(1, 1, *shape), config.patch)
    context, mask = text[0].to(weight), text[1].to(weight.device)
    prepared = dit.prepare(
        [grid],
        context,
        mask,
        context_lengths=lengths,
        shares=shares,
        cyclic=cyclic,
        trained_frames=trained_frames,
        device=weight.device,
    )

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        output, _ = split_learned_variance(dit(x.to(weight), sigma, prepared=prepared, labels=labels), x.shape[1])
        return to_denoised(output.to(x), x, sigma, config.prediction, config.patch)

    return predict


def tiled_predictor(models: Models, prompts: Sequence[str], shape: Sequence[int], tiling: Tiling) -> Denoiser:
    """The DiT as a denoiser of latents (B, C, *shape) that are larger than it knows, tile by tile (tasks.tiles).

    For a second pass: `enlarge` the latents of a clip, noise them to a strength, and sample over `sigmas_from` it
    (tasks.second_pass).
    """
    predict = predictor(models, prompts, tiling.largest((1, 1, *shape))[2:])
    return lambda x, sigma: in_tiles(x, tiling, lambda tile, _: predict(tile, sigma))


def mixed_predictor(
    models: Models, shares: Mapping[str, Tensor], *, contrast: float = 0.0, cyclic: bool = False
) -> Denoiser:
    """The DiT as a denoiser of latents (B, C, T, H, W) whose places have prompts of their own: answers are mixed.

    It is run over the whole for each prompt, and each place takes its answers by shares (T, H, W), which add up to 1
    (tasks.prompts); contrast leads it away from those to the other prompts.
    """
    weights = contrasted(shares, contrast)
    parts = [(weight, predictor(models, [prompt], weight.shape, cyclic=cyclic)) for prompt, weight in weights.items()]

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        return sum((weight.to(x) * answer(x, sigma) for weight, answer in parts), start=torch.zeros_like(x))

    return predict


def placed_predictor(models: Models, shares: Mapping[str, Tensor], *, cyclic: bool = False) -> Denoiser:
    """The same in one run: each patch attends to its own prompt, and learns of the others by the patches around it."""
    weight = next(models.dit.parameters())
    texts = [models.text([prompt], weight.device) for prompt in shares]
    text = torch.cat([context for context, _ in texts], dim=1), torch.cat([mask for _, mask in texts], dim=1)
    places = torch.stack(list(shares.values()))  # (R, T, H, W)
    return text_denoiser(
        models.dit,
        text,
        places.shape[1:],
        cyclic=cyclic,
        lengths=[mask.shape[1] for _, mask in texts],
        shares=patch_shares(places, models.dit.config.patch).to(weight.device),
    )


def keeping(predict: Denoiser, known: Canvas, dit: DiT) -> Denoiser:
    """A denoiser that sees and keeps what a canvas knows."""
    patch, device = dit.config.patch, next(dit.parameters()).device
    reference, change = known.latents.to(device), known.change.to(device)
    # levels per latent frame where that says all, otherwise per patch
    patches = to_patches(change, patch).mean(dim=-1)  # (B, N)
    patches = patches.unflatten(1, (change.shape[2] // patch[0], -1))  # (B, T, patches)
    per_frame = patch[0] == 1 and bool((patches == patches[..., :1]).all())
    share = patches[..., 0] if per_frame else patches.flatten(1)

    def predict_unknown(x: Tensor, sigma: Tensor) -> Tensor:
        seen = torch.lerp(reference, x, change)  # the noise level of each place is change * sigma
        return torch.lerp(reference, predict(seen, share * sigma[:, None]), change)

    return predict_unknown


def clip_noise(models: Models, shape: Sequence[int], seed: int) -> Tensor:
    """Noise (C, *shape) of one clip, drawn on the CPU so that a seed means the same everywhere."""
    noise = torch.randn(models.dit.config.in_channels, *shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(next(models.dit.parameters()).device)
