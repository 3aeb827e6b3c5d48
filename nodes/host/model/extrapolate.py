"""Longer videos than a model was trained on: one frequency of its rotary positions in time is slowed down (RIFLEx)."""

from __future__ import annotations

from typing import Any

import comfy.ldm.flux.layers
import comfy.ldm.hunyuan_video.model
import comfy.ldm.wan.model
import comfy.model_base
import torch
from einops import rearrange
from torch import Tensor

from ....models.geometry import OURS
from ....models.transformer.rope import extrapolated
from ..checkpoint import trained_on
from .hosted_dit import EXTRAPOLATE
from .levels import is_ours

WAN21, WAN22_5B, HUNYUAN = 81, 121, 129  # frames of their training


def extrapolate(model: Any, trained_frames: int, number: int) -> tuple[Any, int]:
    """A clone of a MODEL that slows frequency `number` of time (1 the fastest, 0: the right one), and frames it knows.

    trained_frames 0: what is known about the model. ValueError for models whose positions are of another kind.
    """
    frames = trained_frames or trained_length(model)
    trained, pair = OURS.latents(frames), number - 1  # a latent is 4 frames in all models here
    patched = model.clone()
    if is_ours(model):
        # a clone shares nested options with its original
        options = {**patched.model_options["transformer_options"], EXTRAPOLATE: (trained, pair)}
        patched.model_options["transformer_options"] = options
        return patched, frames
    name = _embedder(model)
    patched.add_object_patch(name, SlowedEmbed(_original(model.get_model_object(name)), trained, pair))
    return patched, frames


def trained_length(model: Any) -> int:
    """Frames of the clips that a MODEL was trained on. ValueError where nobody has said."""
    if is_ours(model):
        known = trained_on(model)
        if known is not None:
            return known.frames
        raise ValueError("this checkpoint does not say how long its clips were: set `trained_frames`")
    if isinstance(model.get_model_object("diffusion_model"), comfy.ldm.hunyuan_video.model.HunyuanVideo):
        return HUNYUAN
    return WAN22_5B if isinstance(model.model, comfy.model_base.WAN22) else WAN21


def _embedder(model: Any) -> str:
    network = model.get_model_object("diffusion_model")
    if isinstance(network, comfy.ldm.wan.model.WanModel):
        return "diffusion_model.rope_embedder"
    if isinstance(network, comfy.ldm.hunyuan_video.model.HunyuanVideo):
        return "diffusion_model.pe_embedder"
    raise ValueError(
        f"the positions of {type(network).__name__} are of another kind: this works on this pack's model, Wan and "
        "HunyuanVideo; for others use Extend Far"
    )


def _original(embed: Any) -> Any:
    """The embedding below an earlier patch."""
    return embed.original if isinstance(embed, SlowedEmbed) else embed


class SlowedEmbed(torch.nn.Module):
    """Core's EmbedND with one frequency of the first axis, time, slowed down when a video is longer than `trained`."""

    def __init__(self, original: comfy.ldm.flux.layers.EmbedND, trained: int, pair: int) -> None:
        super().__init__()
        self.original, self.trained, self.pair = original, trained, pair

    def forward(self, ids: Tensor) -> Tensor:
        """Positions (B, N, 3) -> rotations (B, 1, N, D / 2, 2, 2), as core has them."""
        turned: Tensor = self.original(ids)
        time = ids[..., 0].cpu().double()  # GPUs of Apple know no float64
        pairs = self.original.axes_dim[0] // 2
        steps = torch.arange(pairs, dtype=torch.float64) / pairs
        ordinary = float(self.original.theta) ** -steps
        slowed = extrapolated(ordinary, self.trained, round(float(time.max() - time.min())) + 1, self.pair)
        for pair in (slowed != ordinary).nonzero().flatten().tolist():
            angle = time * slowed[pair]
            rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
            turned[:, 0, :, pair] = rearrange(rotation, "b n (i j) -> b n i j", i=2, j=2).float().to(turned)
        return turned
