"""Checkpoints: one safetensors file holds a DiT, a VAE or both, with their configs as JSON in its header.

Keys are `dit.*` and `vae.*`; the header entry `spacetime` is {"dit": {...}, "vae": {...}, "meta": {...}}. A file may
hold the DiT's form for few steps as well: `few.LAYER.lora_up` and `.lora_down`, to be added to it, and meta.few, which
says how that form is run, as {"recommended": {...}, "shift": 2.0}.
Files are written under a temporary name and renamed, so a reader never sees half a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .building import AGAIN, built, check_finite, check_format, fitting, read_described
from .files import write_tensors
from .headers import check_number, config_of
from .lora import DOWN, UP, Pair, merged, misfit, pairs_of
from .recommended import CARD, Recommended
from .remedies import cut
from .trained_on import TrainedOn
from .transformer.config import DiTConfig
from .transformer.dit import DiT
from .vae.autoencoder import VAEConfig, VideoVAE, encoder_mark

HEADER = "spacetime"
FORMAT = 1
UPDATE = "update the pack, or download or train the file again"


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `meta` is free: training record, sizes and settings, preview factors."""

    dit_config: DiTConfig | None = None
    dit_state: dict[str, Tensor] = field(default_factory=dict)
    vae_config: VAEConfig | None = None
    vae_state: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    few_state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the DiT knows, by number."""
        return tuple(self.meta.get("classes") or self.meta.get("dit", {}).get("classes") or ())

    def dit(self, dtype: torch.dtype = torch.float32) -> DiT:
        """The DiT with its weights, in evaluation mode. ValueError when the file holds none or keys do not match."""
        if self.dit_config is None:
            raise ValueError("this checkpoint holds no DiT, only a VAE: choose one that holds both")
        return built(DiT, self.dit_config, self.dit_state, "DiT", dtype)

    def for_few_steps(self) -> Checkpoint:
        """The same with the DiT's form for few steps in its place. ValueError when the file holds none."""
        if not self.few_state:
            raise ValueError(
                "this checkpoint holds no form for few steps: choose full, or teach it one (Distill DiT) and bundle it"
            )
        meta = {name: value for name, value in self.meta.items() if name != "few"} | self.meta["few"]
        return replace(self, dit_state=merged(self.dit_state | self.few_state), meta=meta, few_state={})

    def vae(self, dtype: torch.dtype = torch.float32) -> VideoVAE:
        """The VAE with its weights, in evaluation mode. ValueError when the file holds none or keys do not match."""
        if self.vae_config is None:
            raise ValueError("this checkpoint holds no VAE, only a DiT: choose one that holds both")
        return built(VideoVAE, self.vae_config, self.vae_state, "VAE", dtype)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint that load_checkpoint reads."""
    described = {
        "format": FORMAT,
        "dit": asdict(checkpoint.dit_config) if checkpoint.dit_config else None,
        "vae": asdict(checkpoint.vae_config) if checkpoint.vae_config else None,
        "meta": checkpoint.meta,
    }
    tensors = {f"dit.{key}": value for key, value in checkpoint.dit_state.items()}
    tensors |= {f"vae.{key}": value for key, value in checkpoint.vae_state.items()}
    tensors |= {f"few.{key}": value for key, value in checkpoint.few_state.items()}
    write_tensors(path, tensors, {HEADER: json.dumps(described)})


def latents_of(checkpoint: Checkpoint) -> str:
    """The mark of the VAE whose latents a DiT was trained on; empty where its file does not tell."""
    own = encoder_mark(checkpoint.vae_state) if checkpoint.vae_state else ""
    before = checkpoint.meta.get("dit")
    inner = before.get("latents_of", "") if isinstance(before, dict) else ""
    return str(checkpoint.meta.get("latents_of") or inner or own)


def joined(
    dit: Checkpoint, vae: Checkpoint, recommended: Recommended | None = None, trained_on: Sequence[str] = ()
) -> Checkpoint:
    """The DiT of one checkpoint and the VAE of another, in bf16.

    recommended: the settings that nodes take for this model's own; None: those of the DiT's file, or the embedded
    model's. trained_on: clip sizes that the DiT knows (trained_on.TrainedOn), where its own record does not say it.
    ValueError when the DiT was trained on latents of another VAE; files from before this was written down are believed.
    """
    knows, given = latents_of(dit), encoder_mark(vae.vae_state)
    if vae.vae_state and knows not in ("", given):
        raise ValueError(
            f"this DiT was trained on latents of the VAE {knows}, and the VAE given is {given}: join it with the one "
            "of its training"
        )
    states = [{key: value.bfloat16() for key, value in state.items()} for state in (dit.dit_state, vae.vae_state)]
    used = recommended or recommended_of(dit.meta) or CARD
    meta = {"dit": dit.meta, "vae": vae.meta, "shift": used.shift, "recommended": used.entry()}
    known = list(trained_on) or dit.meta.get("trained_on", [])
    if known:
        TrainedOn.parse(known)
        meta["trained_on"] = known
    if dit.few_state:
        meta["few"] = dit.meta["few"]
    return Checkpoint(dit.dit_config, states[0], vae.vae_config, states[1], meta, dit.few_state)


def with_few_steps(checkpoint: Checkpoint, pairs: Mapping[str, Pair], recommended: Recommended) -> Checkpoint:
    """A checkpoint that also holds its DiT's form for few steps, in bf16: adapters, and how that form is run.

    ValueError when the adapters are another model's.
    """
    state = {f"{layer}{UP}": (pair.scale * pair.up).bfloat16() for layer, pair in pairs.items()}
    state |= {f"{layer}{DOWN}": pair.down.bfloat16() for layer, pair in pairs.items()}
    told = {"recommended": recommended.entry(), "shift": recommended.shift}
    made = replace(checkpoint, few_state=state, meta=checkpoint.meta | {"few": told})
    check_few(made)
    return made


def known_sizes(meta: Mapping[str, Any]) -> TrainedOn | None:
    """What a checkpoint's meta says about the clips of its training; None where it says nothing that can be read."""
    try:
        return TrainedOn.parse(meta["trained_on"])
    except (KeyError, TypeError, ValueError):
        return None


def recommended_of(meta: Mapping[str, Any]) -> Recommended | None:
    """What a checkpoint's meta recommends; None where it recommends nothing. ValueError for what no run can take."""
    if meta.get("recommended") is None:
        return None
    shift = meta.get("shift")
    return Recommended.parse(meta["recommended"], CARD.shift if shift is None else shift)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a Spacetime checkpoint. ValueError for a broken or foreign file, which it names where it knows it."""
    return read_described(Path(path), HEADER, describe_foreign, UPDATE, _described, check_weights)


def _described(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """What a file's header says, with its weights. ValueError for a header of another make, or values out of place."""
    check_format(header, FORMAT)
    dit, vae, meta = (header.get(name) for name in ("dit", "vae", "meta"))
    if not isinstance(meta or {}, Mapping):
        raise ValueError(f"meta is {cut(meta, 40)}, where an object belongs")
    made = Checkpoint(
        None if dit is None else config_of(DiTConfig, dit),
        _part(tensors, "dit"),
        None if vae is None else config_of(VAEConfig, vae),
        _part(tensors, "vae"),
        dict(meta or {}),
        _part(tensors, "few"),
    )
    check_meta(made.meta, made.dit_config)
    check_few(made)
    return made


def check_meta(meta: Mapping[str, Any], config: DiTConfig | None) -> None:
    """ValueError for entries of `meta` that are used and are not what they should be."""
    if meta.get("shift") is not None:
        check_number("shift", meta["shift"], 0.01, 1000)
    if meta.get("trained_on"):
        TrainedOn.parse(meta["trained_on"])
    recommended_of(meta)
    if not isinstance(meta.get("dit", {}), Mapping):
        raise ValueError(f"meta.dit is {cut(meta['dit'], 40)}, where an object belongs")
    names = meta.get("classes") or meta.get("dit", {}).get("classes") or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes are {cut(names, 40)}, where a list of names belongs")
    if config is None:
        return
    if names and len(names) != config.num_classes:
        raise ValueError(f"{len(names)} classes are named, and the DiT knows {config.num_classes}")
    channels = config.in_channels
    for key, rows in (("rgb_factors", channels), ("rgb_bias", 1)):
        if meta.get(key) is not None:
            table = meta[key] if key == "rgb_factors" else [meta[key]]
            if not isinstance(table, list) or [_length(row) for row in table] != [3] * rows:
                raise ValueError(f"{key} is {cut(meta[key], 40)}, where {rows} x 3 numbers belong")
            for value in (value for row in table for value in row):
                check_number(key, value, -1e6, 1e6)


def _length(row: object) -> int:
    return len(row) if isinstance(row, list) else 0


def check_few(checkpoint: Checkpoint) -> None:
    """ValueError for a form for few steps that does not fit the DiT or does not say how it is to be run."""
    told = checkpoint.meta.get("few")
    if not checkpoint.few_state:
        return
    if not isinstance(told, Mapping) or set(told) != {"recommended", "shift"}:
        raise ValueError(f"few is {cut(told, 40)}, where recommended and shift belong")
    check_number("shift", told["shift"], 0.01, 1000)
    recommended_of(told)
    pairs = pairs_of(checkpoint.few_state)
    odd = [name for name in checkpoint.few_state if not name.endswith((UP, DOWN))]
    wrong = odd[0] if odd else misfit(checkpoint.dit_state, pairs)
    if wrong:
        raise ValueError(f"the form for few steps does not fit the DiT ({cut(wrong, 60)}): {AGAIN}")


def check_weights(checkpoint: Checkpoint) -> None:
    """ValueError unless the weights of a checkpoint fit its configs, and are finite; nothing is allocated for it."""
    for kind, config, state, name in (
        (DiT, checkpoint.dit_config, checkpoint.dit_state, "DiT"),
        (VideoVAE, checkpoint.vae_config, checkpoint.vae_state, "VAE"),
    ):
        if config is not None:
            fitting(kind, config, state, name)
            check_finite(state, name)
    check_finite(checkpoint.few_state, "form for few steps")
    if checkpoint.vae_config is not None and not bool((checkpoint.vae_state["latent_std"] > 0).all()):
        raise ValueError(f"the VAE's latents have a deviation that is not above 0: {AGAIN}")


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


FOREIGN = {
    "head.modulation": "it looks like a Wan model; use Load Diffusion Model",
    "adaln_single.emb.timestep_embedder.linear_1.bias": "it looks like an LTX-Video model; use Load Checkpoint",
    "double_blocks.0.img_attn.qkv.weight": "it looks like a Flux or HunyuanVideo model; use Load Diffusion Model",
    "joint_blocks.0.x_block.attn.qkv.weight": "it looks like a Stable Diffusion 3 model; use Load Checkpoint",
    "input_blocks.0.0.weight": "it looks like a Stable Diffusion model; use Load Checkpoint",
    "decoder.conv_in.weight": "it looks like an image VAE; use Load VAE",
    "lora_up.weight": "it looks like a LoRA; use Load LoRA",
    "lora_A.weight": "it looks like a LoRA; use Load LoRA",
}


def describe_foreign(tensors: Mapping[str, Tensor]) -> str:
    """That a file is none of ours, and what it seems to be, from its key names."""
    seems = (text for ending, text in FOREIGN.items() if any(key.endswith(ending) for key in tensors))
    return f"is not a Spacetime checkpoint: {next(seems, 'its header has no entry for this pack')}"
