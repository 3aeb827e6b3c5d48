"""Checkpoints: one safetensors file holds a DiT, a VAE or both, with their configs as JSON in its header.

Keys are `dit.*` and `vae.*`; the header entry `spacetime` is {"dit": {...}, "vae": {...}, "meta": {...}}.
Files are written under a temporary name and renamed, so a reader never sees half a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .files import read_tensors, write_tensors
from .trained_on import TrainedOn
from .transformer.dit import DiT, DiTConfig
from .vae.autoencoder import VAEConfig, VideoVAE

HEADER = "spacetime"
FORMAT = 1
Config = TypeVar("Config", DiTConfig, VAEConfig)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `meta` is free: training record, recommended sizes, preview factors."""

    dit_config: DiTConfig | None = None
    dit_state: dict[str, Tensor] = field(default_factory=dict)
    vae_config: VAEConfig | None = None
    vae_state: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the DiT knows, by number."""
        return tuple(self.meta.get("classes") or self.meta.get("dit", {}).get("classes") or ())

    def dit(self, dtype: torch.dtype = torch.float32) -> DiT:
        """The DiT with its weights, in evaluation mode. ValueError when the file holds none or keys do not match."""
        if self.dit_config is None:
            raise ValueError("this checkpoint holds no DiT, only a VAE: choose one that holds both")
        model = DiT(self.dit_config)
        return _filled(model, self.dit_state, "DiT").to(dtype).eval()

    def vae(self, dtype: torch.dtype = torch.float32) -> VideoVAE:
        """The VAE with its weights, in evaluation mode. ValueError when the file holds none or keys do not match."""
        if self.vae_config is None:
            raise ValueError("this checkpoint holds no VAE, only a DiT: choose one that holds both")
        return _filled(VideoVAE(self.vae_config), self.vae_state, "VAE").to(dtype).eval()


Module = TypeVar("Module", DiT, VideoVAE)


def _filled(model: Module, state: Mapping[str, Tensor], name: str) -> Module:
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[0]
        raise ValueError(f"the {name} weights do not fit their config: {wrong[0]} {list(wrong[1])} has no counterpart")
    model.load_state_dict(dict(state))
    return model


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
    write_tensors(path, tensors, {HEADER: json.dumps(described)})


def joined(dit: Checkpoint, vae: Checkpoint, shift: float = 2.0, trained_on: Sequence[str] = ()) -> Checkpoint:
    """The DiT of one checkpoint and the VAE of another, in bf16. Hosts start with this shift of the noise schedule.

    trained_on: clip sizes that the DiT knows (trained_on.TrainedOn), where its own record does not say it.
    """
    states = [{key: value.bfloat16() for key, value in state.items()} for state in (dit.dit_state, vae.vae_state)]
    meta = {"dit": dit.meta, "vae": vae.meta, "shift": shift}
    known = list(trained_on) or dit.meta.get("trained_on", [])
    if known:
        TrainedOn.parse(known)
        meta["trained_on"] = known
    return Checkpoint(dit.dit_config, states[0], vae.vae_config, states[1], meta)


def known_sizes(meta: Mapping[str, Any]) -> TrainedOn | None:
    """What a checkpoint's meta says about the clips of its training; None where it says nothing that can be read."""
    try:
        return TrainedOn.parse(meta["trained_on"])
    except (KeyError, TypeError, ValueError):
        return None


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a Spacetime checkpoint. ValueError for a broken or foreign file, which it names where it knows it."""
    path = Path(path)
    tensors, header = read_tensors(path)
    if HEADER not in header:
        raise ValueError(f"{path.name} is not a Spacetime checkpoint: {describe_foreign(tensors)}")
    try:
        described = json.loads(header[HEADER])
        if described.get("format") != FORMAT:
            raise ValueError(f"format {described.get('format')}, this version reads format {FORMAT}")
        dit = _config(DiTConfig, described["dit"])
        vae = _config(VAEConfig, described["vae"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the header of {path.name} cannot be read ({error}): update the pack or the file") from error
    states = {part: _part(tensors, part) for part in ("dit", "vae")}
    return Checkpoint(dit, states["dit"], vae, states["vae"], dict(described.get("meta") or {}))


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _config(kind: type[Config], values: Mapping[str, Any] | None) -> Config | None:
    """The dataclass of a JSON object; unknown and missing entries are errors."""
    if values is None:
        return None
    names = {f.name for f in fields(kind)}
    if set(values) != names:
        raise ValueError(f"unknown or missing entries {sorted(set(values) ^ names)}")
    entries: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return kind(**entries)


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
    """What a foreign file seems to be, from its key names."""
    for ending, description in FOREIGN.items():
        if any(key.endswith(ending) for key in tensors):
            return description
    return "its header has no entry for this pack"
