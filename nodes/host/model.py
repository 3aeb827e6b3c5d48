"""Our DiT as a core MODEL: core's samplers, LoRA loaders, attention overrides, wrappers and previews work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from comfy.cli_args import args as host_args
from torch import Tensor
from torch.nn.functional import pad

from ...models.flow import convert
from ...models.patches import Grid, Patch, to_patches
from ...models.transformer.attention import Kernel
from ...models.transformer.dit import DiT, DiTConfig, Prepared
from . import DTYPES

SUPPORTED = [torch.bfloat16, torch.float32]
RUN = "spacetime_run"  # key in transformer_options under which a run keeps what its steps share
RGB_FIT_KEYS = ("rgb_factors", "rgb_bias")


class RunCache:
    """Text keys and values and RoPE tables of one sampling run. It lives and dies with the run."""

    def __init__(self) -> None:
        self._entries: list[tuple[tuple[Any, ...], Tensor | None, Tensor | None, Prepared]] = []

    def find(self, key: tuple[Any, ...], context: Tensor | None, mask: Tensor | None) -> Prepared | None:
        """What was prepared for the same text on the same grid."""
        for known, known_context, known_mask, prepared in self._entries:
            if known == key and _same(known_context, context) and _same(known_mask, mask):
                return prepared
        return None

    def keep(self, key: tuple[Any, ...], context: Tensor | None, mask: Tensor | None, prepared: Prepared) -> None:
        """Remember it; a run needs few (positive, negative, both), so a fixed number is plenty."""
        self._entries = [*self._entries[-7:], (key, context, mask, prepared)]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and a.device == b.device and torch.equal(a, b)


class HostedDiT(DiT):
    """The DiT behind core's call: `diffusion_model(x, timesteps, context=..., transformer_options=...)`."""

    def __init__(
        self, *, config: DiTConfig, dtype: torch.dtype, device: Any = None, operations: Any = torch.nn
    ) -> None:
        super().__init__(config, operations=operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(  # type: ignore[override]
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None, **extra: Any,
    ) -> Tensor:  # fmt: skip
        """x (B, C, T, H, W), timesteps (B,) or (B, N) are sigmas -> velocity of x's shape."""
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        run = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._predict, self, wrappers)
        velocity: Tensor = run.execute(x, timesteps, context, options, **extra)
        return velocity

    def _predict(
        self, x: Tensor, sigma: Tensor, context: Tensor | None, options: dict[str, Any], *,
        context_mask: Tensor | None = None, denoise_mask: Tensor | None = None, weights_vary: bool = False, **_: Any,
    ) -> Tensor:  # fmt: skip
        size = x.shape[-3:]
        x = pad_to_patch(x, self.config.patch)
        mask = context_mask[..., 0] > 0.5 if context_mask is not None else None
        cache = None if weights_vary or torch.is_grad_enabled() else options.get(RUN)
        prepared = self._prepared(Grid.of(x, self.config.patch), context, mask, x, cache)
        out = super().forward(
            x, sigma, prepared=prepared, attention=kernel(x.device, options), transformer_options=options
        )
        velocity = convert(
            out[:, : self.config.in_channels].float(),
            x.float(),
            sigma,
            self.config.prediction,
            "velocity",
            self.config.patch,
        )
        if denoise_mask is not None:
            # core subtracts sigma * velocity with the sampler's sigma; a patch's own one is mask times that
            levels = patch_levels(denoise_mask.float(), self.config.patch)
            velocity = velocity * levels.expand_as(velocity)
        return velocity[..., : size[0], : size[1], : size[2]]

    def _prepared(
        self, grid: Grid, context: Tensor | None, mask: Tensor | None, x: Tensor, cache: RunCache | None
    ) -> Prepared:
        key = (id(self), grid, x.device, x.dtype)
        found = cache.find(key, context, mask) if cache is not None else None
        if found is not None:
            return found
        # a mask that hides nothing would only keep fast attention kernels away
        visible = None if mask is None or bool(mask.all()) else mask
        prepared = self.prepare([grid], context, visible, device=x.device)
        if cache is not None:
            cache.keep(key, context, mask, prepared)
        return prepared


def pad_to_patch(x: Tensor, patch: Patch) -> Tensor:
    """Latents (..., T, H, W) grown to whole patches by repeating their border."""
    missing = [-size % p for size, p in zip(x.shape[-3:], patch, strict=True)]
    return pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else x


def patch_levels(mask: Tensor, patch: Patch) -> Tensor:
    """A mask (B, C, T, H, W) with every patch at its mean, (B, 1, T', H', W') on the padded grid."""
    padded = pad_to_patch(mask[:, :1], patch)
    mean = torch.nn.functional.avg_pool3d(padded, patch)
    for axis, factor in zip((-3, -2, -1), patch, strict=True):
        mean = mean.repeat_interleave(factor, dim=axis)
    return mean


def kernel(device: torch.device, options: dict[str, Any]) -> Kernel:
    """Core's attention, so that its backends and `optimized_attention_override` apply.

    On CPUs core picks a sub-quadratic form that is several times slower than torch's own; masked (cross-) attention
    goes to torch's everywhere because not every backend takes boolean masks.
    """
    attention = comfy.ldm.modules.attention
    dense = attention.attention_pytorch if device.type == "cpu" else attention.optimized_attention

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        chosen = dense if mask is None else attention.attention_pytorch
        out: Tensor = chosen(
            q, k, v, q.shape[1], mask=mask, skip_reshape=True, skip_output_reshape=True, transformer_options=options
        )
        return out

    return run


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
        context = kwargs.get("cross_attn")
        if context is not None:
            width = self.diffusion_model.config.context_dim
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
            out["whole_frames"] = comfy.conds.CONDConstant(bool((mask == mask[..., :1, :1]).all()))
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
    spacial_downscale_ratio = 8
    temporal_downscale_ratio = 4


class SpacetimeConfig(comfy.supported_models_base.BASE):
    """What core asks of a model's configuration."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - core's own declaration
    latent_format = LatentFormat
    supported_inference_dtypes = SUPPORTED


def compute_dtype(choice: str, device: torch.device, num_weights: int) -> torch.dtype:
    """The dtype to compute in. `auto` is bfloat16 wherever there are matrix units for it, CPUs included.

    Core itself never computes a DiT in bf16 on CPUs; with AMX tiles that is three times faster than fp32.
    """
    if choice != "auto":
        return DTYPES[choice]
    if device.type == "cpu":
        return torch.bfloat16 if has_matrix_units() and not host_args.fp32_unet else torch.float32
    dtype: torch.dtype = comfy.model_management.unet_dtype(
        device=device, model_params=num_weights, supported_dtypes=SUPPORTED
    )
    return dtype


def has_matrix_units() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (AMX)."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())


def build_model(config: DiTConfig, state: Mapping[str, Tensor], meta: Mapping[str, Any], dtype: str = "auto") -> Any:
    """A core MODEL (ModelPatcher) with these weights. ValueError when weights are missing or of another shape.

    meta may give `shift` (of the sampling schedule) and the preview colours `rgb_factors` (C, 3) and `rgb_bias` (3,).
    """
    device = comfy.model_management.get_torch_device()
    offload = comfy.model_management.unet_offload_device()
    chosen = compute_dtype(dtype, device, sum(value.numel() for value in state.values()))
    host = SpacetimeConfig({"config": config})
    host.sampling_settings = {"shift": float(meta.get("shift", 3.0)), "multiplier": 1.0}
    host.latent_format.latent_channels = config.in_channels
    host.latent_format.latent_rgb_factors, host.latent_format.latent_rgb_factors_bias = (
        meta.get(k) for k in RGB_FIT_KEYS
    )
    cast = None if device.type == "cpu" else comfy.model_management.unet_manual_cast(chosen, device, SUPPORTED)
    host.set_inference_dtype(chosen, cast)
    model = SpacetimeModel(host, device=offload)
    check_weights(model.diffusion_model, state)
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    patcher = patcher_class(model, load_device=device, offload_device=offload)
    dynamic = bool(getattr(patcher, "is_dynamic", lambda: False)())
    model.diffusion_model.load_state_dict(state, strict=True, assign=dynamic)
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "spacetime", open_run)
    return patcher


def open_run(executor: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], *rest: Any) -> Any:
    """Give a sampling run its own RunCache; core's clone of the options goes away with the run."""
    extra_args["model_options"].setdefault("transformer_options", {})[RUN] = RunCache()
    return executor(guider, sigmas, extra_args, *rest)


def check_weights(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """ValueError that names the weights that are missing, unknown or of another shape."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    wrong = sorted(n for n in expected.keys() & state.keys() if tuple(state[n].shape) != expected[n])
    for names, what in ((missing, "are missing"), (unknown, "are unknown"), (wrong, "have another shape")):
        if names:
            raise ValueError(
                f"{len(names)} weights {what} (first: {names[0]}): the checkpoint is damaged or was made by another "
                "version of the pack; download or train it again"
            )
