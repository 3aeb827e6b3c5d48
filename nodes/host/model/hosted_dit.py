"""Our DiT behind the calls that core makes of a diffusion model: wrappers, block patches, attention overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.ldm.modules.attention
import comfy.ops
import comfy.patcher_extension
import torch
from torch import Tensor
from torch.nn.functional import pad

from ....models.flow import convert
from ....models.patches import Grid, Patch, from_patches, to_patches
from ....models.transformer.attention import Kernel, sdpa
from ....models.transformer.config import DiTConfig
from ....models.transformer.dit import DiT, Prepared
from ....models.transformer.plain import PLAIN
from ....models.transformer.shares import patch_shares
from .text_shares import TextShares

RUN = "spacetime_run"  # key in transformer_options under which a run keeps what its steps share
CYCLIC = "spacetime_cyclic"  # key in transformer_options: time is a circle
EXTRAPOLATE = "spacetime_extrapolate"  # key in transformer_options: (trained frames of patches, pair), see rope_table
GRIDS = "spacetime_grids"  # key in transformer_options: the grids of clips that are packed into one row of patches

# layers of core that it does not cast
for layer_type in (comfy.ops.disable_weight_init.Linear, comfy.ops.disable_weight_init.RMSNorm):
    PLAIN[layer_type] = lambda layer: not (layer.comfy_cast_weights or layer.weight_function or layer.bias_function)


class RunCache:
    """Text keys and values and RoPE tables of one sampling run. It lives and dies with the run.

    texts_stay: nothing between the host and the network changes texts, so the ids of their conditionings tell them
    apart. Else the texts themselves are compared, for which a GPU has to be waited for.
    """

    def __init__(self, *, texts_stay: bool = False) -> None:
        self.texts_stay = texts_stay
        self._entries: list[tuple[tuple[Any, ...], Tensor | None, Tensor | None, Prepared]] = []

    def ids(self, options: Mapping[str, Any]) -> tuple[Any, ...]:
        """The host's ids of the texts of a call, in order; () where they are to be compared."""
        return tuple(options.get("uuids", ())) if self.texts_stay else ()

    def find(
        self, key: tuple[Any, ...], ids: tuple[Any, ...], context: Tensor | None, mask: Tensor | None
    ) -> Prepared | None:
        """What was prepared for the same text on the same grid."""
        for known, known_context, known_mask, prepared in self._entries:
            if known != (*key, ids):
                continue
            pairs = ((known_context, context), (known_mask, mask))
            if all(_same(*pair, compare=not ids) for pair in pairs):
                return prepared
        return None

    def keep(
        self,
        key: tuple[Any, ...],
        ids: tuple[Any, ...],
        context: Tensor | None,
        mask: Tensor | None,
        prepared: Prepared,
    ) -> None:
        """Remember it; a run needs few (positive, negative, both), so a fixed number is plenty."""
        self._entries = [*self._entries[-7:], ((*key, ids), context, mask, prepared)]


def _same(a: Tensor | None, b: Tensor | None, *, compare: bool) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and a.device == b.device and (not compare or torch.equal(a, b))


class HostedDiT(DiT):
    """The DiT behind core's call: `diffusion_model(x, timesteps, context=..., transformer_options=...)`."""

    def __init__(
        self, *, config: DiTConfig, dtype: torch.dtype, device: Any = None, operations: Any = torch.nn
    ) -> None:
        super().__init__(config, operations=operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **extra: Any,
    ) -> Tensor:
        """x (B, C, T, H, W), timesteps (B,) or (B, N) are sigmas -> velocity of x's shape."""
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        run = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._predict, self, wrappers)
        velocity: Tensor = run.execute(x, timesteps, context, options, **extra)
        return velocity

    def _predict(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor | None,
        options: dict[str, Any],
        *,
        context_mask: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        weights_vary: bool = False,
        text_lengths: Sequence[int] = (),
        text_shares: TextShares | None = None,
        class_labels: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        size = x.shape[-3:]
        check_shares(text_shares, size)
        x = pad_to_patch(x, self.config.patch)
        mask = context_mask[..., 0] > 0.5 if context_mask is not None else None
        cache = None if weights_vary or torch.is_grad_enabled() else options.get(RUN)
        grids, (trained, pair) = clip_grids(x, self.config.patch, options), options.get(EXTRAPOLATE, (0, -1))
        time = {"cyclic": bool(options.get(CYCLIC)), "trained_frames": trained, "pair": pair}
        ids = cache.ids(options) if cache is not None else ()
        prepared = self._prepared(grids, context, mask, x, cache, time, text_lengths, text_shares, ids)
        values = self.forward_tokens(
            to_patches(x, self.config.patch),
            sigma,
            prepared,
            labels=class_labels,
            attention=kernel(x.device, options, packed=len(grids) > 1),
            transformer_options=options,
        )
        out = from_patches(values, Grid.of(x, self.config.patch), self.config.patch)
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
        self,
        grids: Sequence[Grid],
        context: Tensor | None,
        mask: Tensor | None,
        x: Tensor,
        cache: RunCache | None,
        time: dict[str, Any],
        text_lengths: Sequence[int],
        text_shares: TextShares | None,
        ids: tuple[Any, ...],
    ) -> Prepared:
        key = (id(self), tuple(grids), x.device, x.dtype, tuple(time.items()), tuple(text_lengths), text_shares)
        found = cache.find(key, ids, context, mask) if cache is not None else None
        if found is not None:
            return found
        texts = len(grids) if text_shares is None else len(text_lengths)
        own_context, own_mask, lengths = texts_of_clips(context, mask, texts, text_lengths)
        shares = None if text_shares is None else patch_shares(text_shares.latents, self.config.patch).to(x.device)
        # a mask that hides nothing would only keep fast attention kernels away
        visible = None if own_mask is None or bool(own_mask.all()) else own_mask
        prepared = self.prepare(
            grids, own_context, visible, context_lengths=lengths, shares=shares, device=x.device, **time
        )
        if cache is not None:
            cache.keep(key, ids, context, mask, prepared)
        return prepared


def clip_grids(x: Tensor, patch: Patch, options: dict[str, Any]) -> list[Grid]:
    """The grid of latents, or those of the clips that are packed in them. ValueError when these are other clips."""
    whole = Grid.of(x, patch)
    packed = [Grid(*sizes) for sizes in options.get(GRIDS, ())]
    if packed and (whole[:2] != (1, 1) or sum(grid.num_tokens for grid in packed) != whole.width):
        raise ValueError(
            f"this model was packed for {len(packed)} clips of {sum(g.num_tokens for g in packed)} patches and got "
            f"latents of {tuple(x.shape)}: use model and latent of the same Pack Clips node"
        )
    return packed or [whole]


def check_shares(shares: TextShares | None, size: Sequence[int]) -> None:
    """ValueError where the places that have prompts of their own are not those of these latents."""
    if shares is not None and tuple(shares.latents.shape[1:]) != tuple(size):
        raise ValueError(
            f"these prompts over time were made for latents of {tuple(shares.latents.shape[1:])}, and the video has "
            f"{tuple(size)}: connect the latent that is sampled to Prompt Over Time"
        )


def texts_of_clips(
    context: Tensor | None, mask: Tensor | None, clips: int, lengths: Sequence[int]
) -> tuple[Tensor | None, Tensor | None, tuple[int, ...]]:
    """Text, mask and text lengths for packed clips: a text for each, or the same one repeated.

    The same for places of one clip that have texts of their own.
    """
    if context is None or clips == 1:
        return context, mask, ()
    if lengths:
        if len(lengths) != clips:
            raise ValueError(f"{len(lengths)} packed prompts for {clips} packed clips: pack one prompt with each clip")
        used = sum(lengths)  # a batch may have padded it
        return context[:, :used], None if mask is None else mask[:, :used], tuple(lengths)
    repeated = None if mask is None else mask.repeat(1, clips)
    return context.repeat(1, clips, 1), repeated, (context.shape[1],) * clips


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


def kernel(device: torch.device, options: dict[str, Any], *, packed: bool = False) -> Kernel:
    """Core's attention, so that its backends and `optimized_attention_override` apply.

    Core has none for packed clips: they get ours, in one call, unless somebody has overridden attention.

    On CPUs core picks a sub-quadratic form that takes three to four times as long as torch's own from 1000 patches on:
    they get ours too, or, where it is overridden, core's call of torch's. Masked (cross-) attention goes to torch's
    everywhere because not every backend takes boolean masks.
    """
    attention = comfy.ldm.modules.attention
    if (packed or device.type == "cpu") and "optimized_attention_override" not in options:
        return sdpa
    dense = attention.attention_pytorch if device.type == "cpu" else attention.optimized_attention

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        chosen = dense if mask is None else attention.attention_pytorch
        out: Tensor = chosen(
            q, k, v, q.shape[1], mask=mask, skip_reshape=True, skip_output_reshape=True, transformer_options=options
        )
        return out

    return run
