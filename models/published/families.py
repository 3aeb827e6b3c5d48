"""Which published model a file holds, read from its key names and shapes, and how that model counts time and noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..flow import Prediction, ddpm_alphas_cumprod, vp_to_flow_sigma
from ..recommended import Recommended
from .dit import ClassConfig, ClassTransformer
from .latte import LatteConfig, TextTransformer
from .names import FAMILIES
from .stdit import OpenSoraConfig, OpenSoraTransformer

State = dict[str, Tensor]
Config = ClassConfig | LatteConfig | OpenSoraConfig
Network = ClassTransformer | TextTransformer | OpenSoraTransformer
STABLE_DIFFUSION_VAE = "sd-vae-ft-mse"
MOST_LAYERS, MOST_WIDTH = 256, 16_384  # far above any published model: a forged file must not ask for all memory


@dataclass(frozen=True)
class Units:
    """How a model states noise levels and answers.

    prediction  unit of its answer on our line (flow.py), after `sign`
    sign        -1 where it answers with data - noise instead of noise - data
    variance_preserving  it sees alpha x0 + beta noise of a DDPM schedule and counts its steps, 0 to 999
    time_scale, time_from_clean  else: its time is sigma x time_scale, or (1 - sigma) x time_scale
    """

    prediction: Prediction
    sign: float = 1.0
    variance_preserving: bool = False
    time_scale: float = 1.0
    time_from_clean: bool = False

    def levels(self) -> Tensor:
        """The 1000 noise levels of its schedule on our line, rising, float64."""
        if self.variance_preserving:
            return vp_to_flow_sigma(ddpm_alphas_cumprod())
        return torch.arange(1, 1001, dtype=torch.float64) / 1000


DDPM = Units("eps", variance_preserving=True)
SIT = Units("velocity", sign=-1.0, time_from_clean=True)
OPEN_SORA = Units("velocity", sign=-1.0, time_scale=1000.0)


@dataclass(frozen=True)
class Published:
    """A recognised model: what it is, its weights under our names, and its units."""

    family: str
    config: Config
    state: State
    units: Units
    cfg: float  # guidance it was published with
    vae: str = STABLE_DIFFUSION_VAE

    def network(self, operations: Any = nn, **factory: Any) -> Network:
        """The empty network; load `state` into it."""
        if isinstance(self.config, ClassConfig):
            return ClassTransformer(self.config, operations, **factory)
        if isinstance(self.config, LatteConfig):
            return TextTransformer(self.config, operations, **factory)
        return OpenSoraTransformer(self.config, operations, **factory)

    @property
    def recommended(self) -> Recommended:
        """The guidance it was published with, and 50 plain steps: Euler's, which are DDIM on our line."""
        return Recommended(cfg=self.cfg, shift=1.0, steps=50, solver="euler")

    def describe(self) -> str:
        """What it makes and what goes with it, in one line."""
        config = self.config
        side = config.grid * config.patch * 8
        length = f", {config.frames} frames" if config.frames else ""
        asks = f"{config.num_classes} classes" if config.num_classes else "text (T5-XXL)"
        asks = asks if config.num_classes or config.context_dim else "no condition"
        return f"{self.family}: {side} x {side} pixels{length}, {asks}, VAE {self.vae}, cfg {self.cfg:g}"


def recognise(state: Mapping[str, Tensor], family: str = "auto", name: str = "") -> Published:
    """The published model that a state dict holds.

    family: auto, or one of FAMILIES where a file does not tell: DiT and SiT have the same keys, and auto takes SiT
    where the file's name says so. ValueError for anything else, in one sentence.
    """
    found = dict(state)
    if "temporal_transformer_blocks.0.scale_shift_table" in found:
        kind, published = "Latte-1", _latte
    elif "temporal_blocks.0.scale_shift_table" in found and "fps_embedder.mlp.0.weight" in found:
        kind, published = "Open-Sora", _open_sora
    elif "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight" in found:
        found, kind, published = from_diffusers(found), "DiT", _diffusers_dit
    elif "blocks.0.adaLN_modulation.1.weight" in found and "t_embedder.mlp.0.weight" in found:
        kind, published = ("Latte", _class_latte) if "temp_embed" in found else ("DiT", _dit)
    else:
        raise ValueError(
            f"{name or 'this file'} holds none of {', '.join(FAMILIES)} (by its key names): load other models with "
            "Load Diffusion Model or Load Checkpoint"
        )
    wanted = family if family != "auto" else "SiT" if kind == "DiT" and "sit" in name.lower() else kind
    if wanted == "SiT" and kind == "DiT":
        published = _sit
    elif wanted != kind:
        raise ValueError(f"{name or 'this file'} holds a {kind}, not a {wanted}: set family to auto or to {kind}")
    try:
        return published(found)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{name or 'this file'} looks like a {kind} but lacks weights ({error})") from error


def _dit(state: State) -> Published:
    return Published("DiT", _class_config(state), _without(state, "pos_embed"), DDPM, cfg=4.0)


def _diffusers_dit(state: State) -> Published:
    config = _class_config(state, time_shift=1, mlp_norm_eps=1e-5)
    return Published("DiT", config, state, DDPM, cfg=4.0)


def _sit(state: State) -> Published:
    return Published("SiT", _class_config(state), _without(state, "pos_embed"), SIT, cfg=4.0)


def _class_latte(state: State) -> Published:
    config = _class_config(state, frames=state["temp_embed"].shape[1])
    return Published("Latte", config, _without(state, "pos_embed", "temp_embed"), DDPM, cfg=7.0)


def _latte(state: State) -> Published:
    size, in_channels, patch, _ = state["pos_embed.proj.weight"].shape
    depth = count_layers(state, "transformer_blocks")
    inner = state["transformer_blocks.0.ff.net.0.proj.weight"].shape[0]
    context = state["caption_projection.linear_1.weight"].shape[1]
    out = state["proj_out.weight"].shape[0] // patch**2
    config = LatteConfig(
        in_channels=in_channels,
        out_channels=out,
        hidden_size=size,
        depth=depth,
        num_heads=heads_of(size),
        inner_size=inner,
        patch=patch,
        grid=64 // patch,
        context_dim=context,
    )
    _check(depth, size, inner, context)
    return Published("Latte-1", config, _without(state, "pos_embed.pos_embed"), DDPM, cfg=7.5)


def _open_sora(state: State) -> Published:
    size, in_channels, _, patch, _ = state["x_embedder.proj.weight"].shape
    depth = count_layers(state, "spatial_blocks")
    inner = state["spatial_blocks.0.mlp.fc1.weight"].shape[0]
    length, context = state["y_embedder.y_embedding"].shape
    config = OpenSoraConfig(
        in_channels=in_channels,
        out_channels=state["final_layer.linear.weight"].shape[0] // patch**2,
        hidden_size=size,
        depth=depth,
        num_heads=size // state["spatial_blocks.0.attn.q_norm.weight"].shape[0],
        inner_size=inner,
        patch=patch,
        context_dim=context,
        text_length=length,
    )
    _check(depth, size, inner, context, length)
    return Published("Open-Sora", config, state, OPEN_SORA, cfg=7.0, vae="OpenSora-VAE-v1.2")


def _class_config(state: State, **more: Any) -> ClassConfig:
    size, in_channels, patch, _ = state["x_embedder.proj.weight"].shape
    depth = count_layers(state, "blocks")
    inner = state["blocks.0.mlp.fc1.weight"].shape[0]
    table = state.get("y_embedder.embedding_table.weight")
    places = state.get("pos_embed")
    config = ClassConfig(
        in_channels=in_channels,
        out_channels=state["final_layer.linear.weight"].shape[0] // patch**2,
        hidden_size=size,
        depth=depth,
        num_heads=heads_of(size),
        inner_size=inner,
        patch=patch,
        grid=32 // patch if places is None else math.isqrt(places.shape[1]),
        num_labels=0 if table is None else table.shape[0],
        **({"frames": 0} | more),
    )
    _check(depth, size, inner)
    return config


def heads_of(size: int) -> int:
    """Heads of attention by hidden size, which no file tells: 16 for L and XL, else 64 numbers each.

    ValueError for a size that no published model has and that does not split.
    """
    if size in (1024, 1152):
        return 16
    if size % 64:
        raise ValueError(f"a hidden size of {size} is none of 384, 768, 1024, 1152 and no multiple of 64")
    return size // 64


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers stand under a prefix."""
    numbers = {key.split(".")[1] for key in state if key.startswith(f"{prefix}.")}
    return len(numbers)


def _check(depth: int, *widths: int) -> None:
    if depth > MOST_LAYERS or max(widths) > MOST_WIDTH:
        raise ValueError(f"a model of {depth} layers and width {max(widths)} is larger than any that was published")


def _without(state: State, *names: str) -> State:
    """Without tables that are computed here."""
    return {key: value for key, value in state.items() if key not in names}


RENAMED = (
    ("pos_embed.proj.", "x_embedder.proj."),
    ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_1.", "t_embedder.mlp.0."),
    ("transformer_blocks.0.norm1.emb.timestep_embedder.linear_2.", "t_embedder.mlp.2."),
    ("transformer_blocks.0.norm1.emb.class_embedder.", "y_embedder."),
    ("proj_out_1.", "final_layer.adaLN_modulation.1."),
    ("proj_out_2.", "final_layer.linear."),
)
RENAMED_IN_BLOCKS = (
    ("norm1.linear.", "adaLN_modulation.1."),
    ("attn1.to_out.0.", "attn.proj."),
    ("ff.net.0.proj.", "mlp.fc1."),
    ("ff.net.2.", "mlp.fc2."),
)


def from_diffusers(state: Mapping[str, Tensor]) -> State:
    """diffusers' layout of a DiT under Meta's names. Its copies of both embedders in every block are left out."""
    out: State = {}
    for key, value in state.items():
        renamed = next((new + key.removeprefix(old) for old, new in RENAMED if key.startswith(old)), None)
        if renamed is not None:
            out[renamed] = value
            continue
        parts = key.split(".", 2)
        if (
            parts[0] != "transformer_blocks"
            or len(parts) < 3
            or ".emb." in key
            or "attn1.to_k" in key
            or "attn1.to_v" in key
        ):
            continue
        block, rest = f"blocks.{parts[1]}.", parts[2]
        if rest.startswith("attn1.to_q."):
            kind = rest.removeprefix("attn1.to_q.")
            names = (f"transformer_blocks.{parts[1]}.attn1.to_{part}.{kind}" for part in "qkv")
            out[f"{block}attn.qkv.{kind}"] = torch.cat([state[name] for name in names])
            continue
        ends = ((new + rest.removeprefix(old)) for old, new in RENAMED_IN_BLOCKS if rest.startswith(old))
        out[block + next(ends, rest)] = value
    return out
