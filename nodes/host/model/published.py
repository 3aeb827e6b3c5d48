"""Published transformers as core MODELs: DiT, SiT, Latte on core's samplers, schedulers, LoRA loaders and previews.

Their noise levels are laid on our line (sigma from 1 to 0), so that everything here works on them; what they are asked
and what they answer is converted in float32, in the sampling object, where core converts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.supported_models_base
import folder_paths
import torch
from torch import Tensor

from ....models.building import check_finite, compare
from ....models.flow import ddpm_alphas_cumprod, flow_to_vp, to_denoised, vp_timestep
from ....models.published.families import Published, Units, recognise
from ....models.published.files import ENDINGS, read_weights
from ..folders import MODEL_FOLDERS
from .hosted_published import HOSTED, HostedOpenSora
from .model import CLASS, CLASS_NAMES, PaddedCond, compute_dtype, context_mask, new_patcher
from .recommended import RECOMMENDED

PAPER_CHANNELS = 3  # of four, that Meta's samples of DiT and SiT were guided on


class PublishedSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """A published model's schedule on our line of noise levels."""

    units: Units
    alphas: Tensor

    @classmethod
    def of(cls, units: Units) -> PublishedSampling:
        """The schedule of a model with these units."""
        sampling = cls()
        sampling.units = units
        sampling.register_buffer("alphas", ddpm_alphas_cumprod(), persistent=False)
        sampling.register_buffer("sigmas", units.levels().float())
        return sampling

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        """The state as the model knows it."""
        return flow_to_vp(noise, sigma.flatten()) if self.units.variance_preserving else noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        """The clean latents that the model's answer implies; a learned variance is left out."""
        answer = self.units.sign * model_output[:, : model_input.shape[1]]
        return to_denoised(answer, model_input, sigma.flatten(), self.units.prediction)

    def timestep(self, sigma: Tensor) -> Tensor:
        """Time as the model counts it."""
        if self.units.variance_preserving:
            return vp_timestep(sigma, self.alphas)
        return (1 - sigma if self.units.time_from_clean else sigma) * self.units.time_scale

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level at a time, the inverse of `timestep`."""
        if not hasattr(self, "units"):  # core's constructor asks before there are any
            return super().sigma(timestep)
        if self.units.variance_preserving:
            home = torch.device("cpu") if timestep.device.type == "mps" else timestep.device  # it knows no float64
            steps = timestep.to(home).double().clamp(0, len(self.sigmas) - 1)
            logits = self.sigmas.to(home).double().logit()
            between = torch.lerp(logits[steps.floor().long()], logits[steps.ceil().long()], steps.frac())
            return between.sigmoid().float().to(timestep.device)
        level = timestep / self.units.time_scale
        return 1 - level if self.units.time_from_clean else level

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level where a share of the schedule is done."""
        if percent <= 0:
            return 1.0
        if percent >= 1:
            return 0.0
        return float(self.sigmas[round((1 - percent) * (len(self.sigmas) - 1))])


class ImageLatents(comfy.latent_formats.SD15):
    """Latents of Stable Diffusion's first VAE, as these models were trained on."""


class FrameLatents(ImageLatents):
    """The same, one for each frame of a video."""

    latent_dimensions = 3
    temporal_downscale_ratio = 1


class PublishedModel(comfy.model_base.BaseModel):
    """Tells core how to feed a published transformer."""

    def __init__(self, model_config: Any, published: Published, device: Any = None) -> None:
        network = HOSTED[type(published.config)]
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=network)
        self.model_sampling = PublishedSampling.of(published.units)
        self.memory_usage_factor = published.config.hidden_size / 2222  # core's rule for Wan

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Conditions of one prompt in the form that core batches."""
        out: dict[str, Any] = super().extra_conds(**kwargs)
        config = self.diffusion_model.config
        context = kwargs.get("cross_attn")
        if not config.context_dim:
            out.pop("c_crossattn", None)
        elif context is not None:
            if context.shape[-1] != config.context_dim:
                raise ValueError(
                    f"this model reads text features of width {config.context_dim}, the conditioning has "
                    f"{context.shape[-1]}: encode the prompt with T5-XXL (Load CLIP, type pixart)"
                )
            mask = context_mask(context, kwargs.get("attention_mask"))
            if isinstance(self.diffusion_model, HostedOpenSora):
                context, mask = self.diffusion_model.text_or_none(context, mask)
                out["fps"] = comfy.conds.CONDRegular(torch.tensor([float(kwargs.get("frame_rate", 24.0))]))
            out["c_crossattn"], out["context_mask"] = PaddedCond(context), PaddedCond(mask)
        if config.num_classes:
            out["class_labels"] = comfy.conds.CONDRegular(torch.tensor([kwargs.get(CLASS, config.num_classes)]))
        return out


class PublishedConfig(comfy.supported_models_base.BASE):
    """What core asks of a model's configuration."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's own declaration
    supported_inference_dtypes = [torch.bfloat16, torch.float16, torch.float32]  # noqa: RUF012 - the same


def build_published(published: Published, dtype: str = "auto", *, all_channels: bool = True) -> Any:
    """A core MODEL (ModelPatcher) with the weights of a recognised file.

    all_channels: guide all latent channels; False: the first three, as the papers' samples of DiT and SiT were.
    ValueError when weights are missing or of another shape.
    """
    empty = published.network(device="meta")
    compare(empty, published.state, published.family)
    check_finite(published.state, published.family)
    device = comfy.model_management.get_torch_device()
    chosen = compute_dtype(dtype, device, sum(value.numel() for value in published.state.values()))
    host = PublishedConfig({"published": published})
    host.latent_format = (FrameLatents if published.config.frames else ImageLatents)()
    host.latent_format.latent_channels = published.config.in_channels
    offload = comfy.model_management.unet_offload_device()
    with torch.inference_mode(False):
        patcher = new_patcher(host, chosen, lambda: PublishedModel(host, published, offload), published.state)
    patcher.set_attachments(CLASS_NAMES, class_names(published.config.num_classes))
    patcher.set_attachments(RECOMMENDED, published.recommended)
    if not all_channels:
        patcher.set_model_sampler_cfg_function(guide_first_channels)
    return patcher


def guide_first_channels(given: dict[str, Any]) -> Tensor:
    """Guidance on three channels, the prompt's own answer on the rest (forward_with_cfg of DiT)."""
    guided: Tensor = given["uncond"] + given["cond_scale"] * (given["cond"] - given["uncond"])
    return torch.cat([guided[:, :PAPER_CHANNELS], given["cond"][:, PAPER_CHANNELS:]], dim=1)


def class_names(count: int) -> Sequence[str]:
    """Names of the classes where they are known: ImageNet's thousand, which torchvision lists."""
    if count != 1000:
        return ()
    try:
        from torchvision.models._meta import _IMAGENET_CATEGORIES
    except ImportError:
        return ()
    return tuple(_IMAGENET_CATEGORIES)


NOTHING = "(no file in models/diffusion_models)"


def published_names() -> list[str]:
    """Files of weights in the host's model folders, safetensors and PyTorch's own; NOTHING where there is none."""
    names: dict[str, None] = {}
    for folder in MODEL_FOLDERS[::-1]:
        names |= dict.fromkeys(n for n in folder_paths.get_filename_list(folder) if n.lower().endswith(ENDINGS))
    return list(names) or [NOTHING]


def published_path(name: str) -> Path:
    """Where a file of `published_names` lies. ValueError when it is gone."""
    for folder in MODEL_FOLDERS[::-1]:
        found = folder_paths.get_full_path(folder, name)
        if found:
            return Path(found)
    raise ValueError(
        f"there is no file {name!r}: put the weights of a DiT, SiT or Latte into ComfyUI's models/diffusion_models "
        "folder, press R to refresh, and pick them"
    )


def load_published(name: str, family: str, dtype: str, *, all_channels: bool) -> tuple[Any, Published]:
    """MODEL of a published file, and what was recognised. ValueError says what is wrong with the file."""
    published = recognise(read_weights(published_path(name)), family, name)
    return build_published(published, dtype, all_channels=all_channels), published
