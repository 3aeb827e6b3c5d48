"""Our DiT as a core MODEL: core's samplers, LoRA loaders, attention overrides, wrappers and previews work on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from comfy.cli_args import args as host_args
from torch import Tensor
from torch.nn.functional import pad

from ....models.building import compare, fitting
from ....models.geometry import OURS
from ....models.patches import to_patches
from ....models.precision import DTYPES, cpu_multiplies_bf16
from ....models.remedies import cut
from ....models.transformer.config import DiTConfig
from ....models.transformer.dit import DiT
from ....models.transformer.packed import forget_clips
from ..messages import say_while_running
from .hosted_dit import CYCLIC, GRIDS, RUN, HostedDiT, RunCache, patch_levels
from .text_shares import SHARES, SharesCond, TextShares

SUPPORTED = [torch.bfloat16, torch.float16, torch.float32]  # the first that the device is fast in
TEXT_LENGTHS = "spacetime_text_lengths"  # entry of a conditioning: tokens of each prompt where there are several
WHOLE_FRAMES = "spacetime_whole_frames"  # entry of a conditioning: that the masks of its runs are even in each frame
CLASS = "spacetime_class"  # entry of a conditioning: number of a class
CLASS_NAMES = "spacetime_class_names"  # attachment of a MODEL: the names of its classes
RGB_FIT_KEYS = ("rgb_factors", "rgb_bias")
_kept: WeakKeyDictionary[Any, tuple[tuple[Any, Any], RunCache]] = WeakKeyDictionary()
TRAINED_ON = "spacetime_trained_on"  # attachment of a MODEL: models.trained_on.TrainedOn or None


class PaddedCond(comfy.conds.CONDRegular):
    """Text features (B, L, E) that batch with texts of other lengths: the shorter one is padded with zeros."""

    def can_concat(self, other: Any) -> bool:
        """Whether the rest of the shape agrees."""
        same_width: bool = self.cond.shape[2:] == other.cond.shape[2:]
        return same_width and self.cond.device == other.cond.device

    def concat(self, others: Sequence[Any]) -> Tensor:
        """All texts one under the other."""
        conds = [self.cond, *(other.cond for other in others)]
        longest = max(cond.shape[1] for cond in conds)
        return torch.cat([pad(cond, (0, 0, 0, longest - cond.shape[1])) for cond in conds])


class SpacetimeModel(comfy.model_base.BaseModel):
    """Tells core how to feed the DiT: text with its mask, and a noise level per patch."""

    def __init__(self, model_config: Any, device: Any = None) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=HostedDiT)
        self.memory_usage_factor = self.diffusion_model.config.hidden_size / 2222  # core's rule for Wan

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Conditions of one prompt in the form that core batches."""
        out: dict[str, Any] = super().extra_conds(**kwargs)
        config = self.diffusion_model.config
        context, width = kwargs.get("cross_attn"), config.context_dim
        if not width:
            out.pop("c_crossattn", None)  # it has classes only
        elif context is not None:
            if context.shape[-1] != width:
                raise ValueError(
                    f"this model reads text features of width {width}, the conditioning has {context.shape[-1]}: "
                    "encode the prompt with the CLIP output of Load Spacetime Checkpoint"
                )
            out["c_crossattn"] = PaddedCond(context)
            out["context_mask"] = PaddedCond(context_mask(context, kwargs.get("attention_mask")))
        mask = kwargs.get("concat_mask", kwargs.get("denoise_mask"))
        if mask is not None:
            out["denoise_mask"] = comfy.conds.CONDRegular(mask)
            known = bool(kwargs.get(WHOLE_FRAMES)) and "concat_mask" not in kwargs
            even = known or bool((mask == mask[..., :1, :1]).all())  # a look, for which a GPU is waited for
            out["whole_frames"] = comfy.conds.CONDConstant(even)
        if config.num_classes:
            out["class_labels"] = comfy.conds.CONDRegular(torch.tensor([kwargs.get(CLASS, config.num_classes)]))
        if kwargs.get(TEXT_LENGTHS):
            out["text_lengths"] = comfy.conds.CONDConstant(kwargs[TEXT_LENGTHS])
        if kwargs.get(SHARES) is not None:
            out["text_shares"] = SharesCond(TextShares(kwargs[SHARES]))
        if kwargs.get("hooks") is not None:
            out["weights_vary"] = comfy.conds.CONDConstant(True)
        return out

    def process_timestep(
        self, timestep: Tensor, denoise_mask: Tensor | None = None, *, whole_frames: bool = False, **_: Any
    ) -> Tensor:
        """Noise level = mask x sigma per patch (B, N), or per frame (B, T) where that says all; (B,) without a mask."""
        if denoise_mask is None:
            return timestep
        patch = self.diffusion_model.config.patch
        mask = denoise_mask.float()
        if whole_frames and patch[0] == 1:
            return mask[:, 0, :, 0, 0] * timestep[:, None]  # (B, T)
        levels = to_patches(patch_levels(mask, patch), patch)[..., 0]  # (B, N)
        return levels * timestep[:, None]

    def scale_latent_inpaint(self, latent_image: Tensor, **_: Any) -> Tensor:
        """Kept places stay clean: their own noise level is 0."""
        return latent_image


def context_mask(context: Tensor, mask: Tensor | None) -> Tensor:
    """Which text tokens count, (B, L, 1) of ones and zeros. Core's nodes that join texts keep the first one's mask."""
    if mask is None:
        return context.new_ones((*context.shape[:2], 1))
    given = mask.reshape(-1, mask.shape[-1])[..., None].to(context)
    missing = context.shape[1] - given.shape[1]
    return pad(given, (0, 0, 0, missing), value=1.0)


class LatentFormat(comfy.latent_formats.LatentFormat):
    """Latents are normalised by the VAE itself, so nothing is scaled here."""

    latent_dimensions = 3
    spacial_downscale_ratio = OURS.space
    temporal_downscale_ratio = OURS.time


class SpacetimeConfig(comfy.supported_models_base.BASE):
    """What core asks of a model's configuration."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's own declaration
    latent_format = LatentFormat
    supported_inference_dtypes = SUPPORTED


def compute_dtype(choice: str, device: torch.device, num_weights: int) -> torch.dtype:
    """The dtype to compute in. `auto` is bfloat16 wherever the hardware multiplies it, CPUs included.

    Core itself never computes a DiT in bf16 on CPUs.
    """
    if choice != "auto":
        return DTYPES[choice]
    if device.type == "cpu":
        return torch.bfloat16 if cpu_multiplies_bf16() and not host_args.fp32_unet else torch.float32
    dtype: torch.dtype = comfy.model_management.unet_dtype(
        device=device, model_params=num_weights, supported_dtypes=SUPPORTED
    )
    return dtype


def build_model(
    config: DiTConfig,
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    dtype: str = "auto",
    *,
    disable_dynamic: bool = False,
) -> Any:
    """A core MODEL (ModelPatcher) with these weights. ValueError when weights are missing or of another shape.

    disable_dynamic: not one whose weights stream to the GPU, also where core has those.
    meta may give `shift` (of the sampling schedule) and the preview colours `rgb_factors` (C, 3) and `rgb_bias` (3,).
    """
    fitting(DiT, config, state, "DiT")  # before anything is allocated
    device = comfy.model_management.get_torch_device()
    offload = comfy.model_management.unet_offload_device()
    chosen = compute_dtype(dtype, device, sum(value.numel() for value in state.values()))
    host = SpacetimeConfig({"config": config})
    host.sampling_settings = {"shift": float(meta.get("shift", 3.0)), "multiplier": 1.0}
    host.latent_format.latent_channels = config.in_channels
    host.latent_format.latent_rgb_factors, host.latent_format.latent_rgb_factors_bias = (
        meta.get(k) for k in RGB_FIT_KEYS
    )
    patcher = new_patcher(
        host, chosen, lambda: SpacetimeModel(host, device=offload), state, disable_dynamic=disable_dynamic
    )
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "spacetime", open_run)
    return patcher


def new_patcher(
    host: comfy.supported_models_base.BASE,
    dtype: torch.dtype,
    build: Callable[[], Any],
    state: Mapping[str, Tensor],
    *,
    disable_dynamic: bool = False,
) -> Any:
    """A core MODEL (ModelPatcher) of the BaseModel that `build` makes once the dtype is set, with these weights.

    disable_dynamic: not one whose weights stream to the GPU, also where core has those. ValueError when weights are
    missing or of another shape.
    """
    device = comfy.model_management.get_torch_device()
    supported = host.supported_inference_dtypes
    cast = None if device.type == "cpu" else comfy.model_management.unet_manual_cast(dtype, device, supported)
    host.set_inference_dtype(dtype, cast)
    model = build()
    compare(model.diffusion_model, state, "DiT")
    plain = comfy.model_patcher.ModelPatcher
    patcher_class = plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    patcher = patcher_class(model, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    dynamic = bool(getattr(patcher, "is_dynamic", lambda: False)())
    model.diffusion_model.load_state_dict(state, strict=True, assign=dynamic)
    return patcher


def open_run(
    executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *rest: Any
) -> Any:
    """Give a sampling run its own RunCache; core's clone of the options goes away with the run, as all that it kept.

    And say so where the video is unlike those that the model was trained on.
    """
    options = extra_args["model_options"].setdefault("transformer_options", {})
    options[RUN] = options.get(RUN) or cache_of(guider, extra_args["model_options"])
    known = guider.model_patcher.get_attachment(TRAINED_ON)
    if known is not None and not options.get(GRIDS):
        frames, height, width = OURS.pixel_size(noise.shape, cyclic=bool(options.get(CYCLIC)))
        say_while_running(known.warning(width, height, frames))
    try:
        return executor(guider, sigmas, extra_args, callback, noise, *rest)
    finally:
        forget_clips()


def cache_of(guider: Any, model_options: Mapping[str, Any]) -> RunCache:
    """What the steps of a run share. Single steps are runs of their own; on a CPU those of one guider share it too.

    There it costs a GPU no memory, and texts are compared for nothing. Other weights are another cache.
    """
    patcher = guider.model_patcher
    if patcher.load_device.type != "cpu":
        return RunCache(texts_stay=texts_stay(model_options))
    now = (patcher, patcher.patches_uuid)
    before, cache = _kept.get(guider, (None, None))
    if cache is None or before != now:
        cache = RunCache()
        _kept[guider] = now, cache
    return cache


def texts_stay(model_options: Mapping[str, Any]) -> bool:
    """Whether nothing that other nodes have hung in could give the network another text than its conditioning's."""
    wrappers = model_options["transformer_options"].get("wrappers", {})
    kinds = comfy.patcher_extension.WrappersMP.APPLY_MODEL, comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    keys = [key for kind in kinds for key, found in wrappers.get(kind, {}).items() if found]
    return "model_function_wrapper" not in model_options and all(str(key).startswith("spacetime") for key in keys)


def labelled(model: Any, label: str, conditioning: Any | None) -> list[Any]:
    """A CONDITIONING that asks for a class of this MODEL, by name or number; an empty label is no class.

    ValueError when the model has no classes, none of this name, or reads text and there is none.
    """
    inner = model.model
    # ours, and the published ones of .published
    count = getattr(getattr(inner.diffusion_model, "config", None), "num_classes", 0)
    if not count:
        raise ValueError("this model was not trained with classes: turn them on in Train DiT, or prompt it with text")
    number = class_number(label, model.get_attachment(CLASS_NAMES) or (), count)
    if conditioning is None:
        if inner.diffusion_model.config.context_dim:
            raise ValueError("this model reads text too: connect a CLIP Text Encode (it may be empty) to conditioning")
        conditioning = [[torch.zeros(1, 1, 1), {}]]
    return [[text, {**more, CLASS: number}] for text, more in conditioning]


def class_number(label: str, names: Sequence[str], count: int) -> int:
    """The number of a class from its name or number; `count` for an empty label. ValueError lists what there is."""
    wanted = " ".join(label.replace("_", " ").split()).lower()
    if not wanted:
        return count
    known = {name.lower(): number for number, name in enumerate(names)}
    if wanted in known:
        return known[wanted]
    if wanted.isdecimal() and len(wanted) < 10 and int(wanted) < count:
        return int(wanted)
    there = ", ".join(names[:20]) or f"numbers from 0 to {count - 1}"
    raise ValueError(f'this model knows no class "{cut(label, 60)}": choose one of {there}')
