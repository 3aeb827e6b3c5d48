"""Tiny random checkpoints of published architectures, written in their key layout and read by ComfyUI's own loaders.

They need the host (`comfy`) on the path. What they make is noise, but the code paths are the real ones.
"""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

NAMES = ("wan", "ltx", "spacetime")


@cache
@torch.inference_mode(False)  # whoever asks first: weights of inference mode are for it alone
def model(name: str) -> Any:
    """The tiny core MODEL of this name, made once."""
    return {"wan": tiny_wan, "ltx": tiny_ltx, "spacetime": tiny_spacetime}[name]()


def random_state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Small random weights, so that a stack of blocks neither dies nor explodes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator) * 0.5 / max(value.shape[-1:].numel(), 1) ** 0.5
        for key, value in module.state_dict().items()
    }


def loaded(state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Any:
    """Save, load through core, and be strict about what it found."""
    import comfy.sd

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        save_file(state, path, metadata)
        model = comfy.sd.load_diffusion_model(str(path))
    missing = set(model.model.diffusion_model.state_dict()) ^ set(state)
    if missing:
        raise RuntimeError(f"core's loader and the checkpoint disagree about {sorted(missing)[:5]}")
    return model


def tiny_wan(seed: int = 0) -> Any:
    """A one-block Wan 2.1 text-to-video model as core MODEL (0.8 M weights, latents of 16 channels)."""
    import comfy.ldm.wan.model
    import comfy.ops

    module = comfy.ldm.wan.model.WanModel(
        dim=128, ffn_dim=16, num_heads=1, num_layers=1, operations=comfy.ops.disable_weight_init
    )
    return loaded(random_state(module, seed))


def tiny_ltx(seed: int = 0) -> Any:
    """A two-block LTX-Video model as core MODEL (0.2 M weights, latents of 128 channels)."""
    import comfy.ldm.lightricks.model
    import comfy.ops

    config = {
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "num_layers": 2,
        "caption_channels": 64,
        "cross_attention_dim": 64,
    }
    module = comfy.ldm.lightricks.model.LTXVModel(**config, operations=comfy.ops.disable_weight_init)
    return loaded(random_state(module, seed), {"config": json.dumps({"transformer": config})})


def conditioning(name: str, seed: int) -> list[Any]:
    """A random CONDITIONING that fits the model of this name."""
    width = {"wan": 4096, "ltx": 64, "spacetime": 384}[name]
    text = torch.randn(1, 4, width, generator=torch.Generator().manual_seed(seed))
    return [[text, {"attention_mask": torch.ones(1, 4, dtype=torch.long), "pooled_output": None}]]


def latent(name: str, *, masked: bool = False, batch: int = 1) -> dict[str, Any]:
    """A small random LATENT that fits the model of this name."""
    shape = {"wan": (16, 2, 4, 4), "ltx": (128, 3, 2, 2), "spacetime": (16, 2, 4, 4)}[name]
    plain = {"samples": torch.randn(batch, *shape, generator=torch.Generator().manual_seed(11))}
    return with_mask(plain) if masked else plain


def with_mask(latent: dict[str, Any]) -> dict[str, Any]:
    """The same LATENT with its first frame kept and a soft edge in the second."""
    batch, _, frames, height, width = latent["samples"].shape
    mask = torch.ones(batch, 1, frames, height, width)
    mask[:, :, 0] = 0
    mask[:, :, 1, 0] = 0.5
    return {**latent, "noise_mask": mask}


def tiny_spacetime(seed: int = 0) -> Any:
    """A random model of our own smallest preset as core MODEL."""
    return spacetime("test", seed)


def spacetime(preset: str, seed: int = 0, dtype: str = "fp32") -> Any:
    """A random model of one of our presets as core MODEL."""
    from ...models.transformer.config import PRESETS
    from ...models.transformer.dit import DiT
    from ...nodes.host.model.model import build_model

    config = PRESETS[preset]
    return build_model(config, random_state(DiT(config), seed), {}, dtype)
