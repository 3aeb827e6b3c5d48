"""Tiny random video VAEs of published architectures, in their key layout and read by ComfyUI's own loader.

They need the host (`comfy`) on the path. Core reads the sizes of Wan 2.1's and LTX-Video's VAE from the file and fixes
those of Wan 2.2's and MiniMax-H3's, so these classes are made narrower while they are read.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

NAMES = ("wan2.1", "wan2.2", "ltx", "h3")
WAN = {
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}
# class of core -> widths that it is made with: Wan 2.2's, then MiniMax-H3's of picture (and its decoder) and sound
NARROW: dict[tuple[str, str], dict[str, Any]] = {
    ("comfy.ldm.wan.vae2_2", "WanVAE"): {"dim": 8, "dec_dim": 8},
    ("comfy.ldm.minimax.vae", "MiniMaxH3VideoVAE"): {"ch": 32, "ch_mult": (1,) * 6, "num_res_blocks": 1},
    ("comfy.ldm.minimax.vae", "ViT3DDecoder"): {"num_layers": 1, "heads": 2, "dim_head": 16},
    ("comfy.ldm.minimax.audio_vae", "MiniMaxH3AudioVAE"): {"encoder_dim": 2, "latent_dim": 64, "decoder_dim": 128},
}
LTX = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "blocks": [["compress_all", 1], ["compress_all", 1], ["compress_all", 1], ["res_x", 1]],
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "causal_decoder": False,
}

LTX_AUDIO = {
    "audio_vae": {
        "model": {
            "params": {
                "sampling_rate": 16000,
                "ddconfig": {
                    "double_z": True,
                    "mel_bins": 64,
                    "z_channels": 8,
                    "resolution": 256,
                    "downsample_time": False,
                    "in_channels": 2,
                    "out_ch": 2,
                    "ch": 8,
                    "ch_mult": [1, 2, 4],
                    "num_res_blocks": 1,
                    "attn_resolutions": [],
                    "dropout": 0.0,
                    "mid_block_add_attention": False,
                    "norm_type": "pixel",
                    "causality_axis": "height",
                },
            }
        },
        "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160}},
    },
    "vocoder": {
        "upsample_initial_channel": 32,
        "upsample_rates": [6, 5, 2, 2, 2],
        "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    },
}


def ltx_audio() -> Any:
    """The tiny core VAE of LTX-2's sound: mel spectrograms of 16 kHz to 25 latents a second, and samples of 24 kHz."""
    import comfy.sd

    state, metadata = ltx_audio_content()
    loaded = comfy.sd.VAE(sd=state, metadata=metadata)
    loaded.throw_exception_if_invalid()
    return loaded


def ltx_audio_content(seed: int = 3) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Its weights and metadata as they stand in a file, under the names that core's loader gives them."""
    import comfy.ldm.lightricks.vae.audio_vae as audio

    metadata = {"config": json.dumps(LTX_AUDIO)}
    return weights(audio.AudioVAE(metadata), seed), metadata


def vae(name: str) -> Any:
    """The tiny core VAE of this name."""
    import comfy.sd

    with narrow():
        state, metadata = file_content(name)
        loaded = comfy.sd.VAE(sd=state, metadata=metadata)
    loaded.throw_exception_if_invalid()
    return loaded


def lacking(name: str) -> str:
    """Why the host cannot load a VAE; empty where it can."""
    try:
        import_module("comfy.ldm.minimax.vae" if name.startswith("h3") else "comfy.sd")
    except ModuleNotFoundError:
        return f"this ComfyUI has no VAE of MiniMax-H3 ({name}), a newer one has"
    return ""


def file_content(name: str, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata as they stand in a file."""
    if name.startswith("h3"):
        return h3_content(name, seed), {}
    import comfy.ldm.lightricks.vae.causal_video_autoencoder as ltx
    import comfy.ldm.wan.vae
    import comfy.ldm.wan.vae2_2

    if name == "wan2.1":
        return weights(comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, **WAN), seed), {}
    if name == "wan2.2":
        with narrow():
            return weights(comfy.ldm.wan.vae2_2.WanVAE(z_dim=48, **WAN), seed), {}
    return weights(ltx.VideoVAE(config=LTX), seed), {"config": json.dumps({"vae": LTX})}


def h3_content(name: str, seed: int) -> dict[str, Tensor]:
    """MiniMax-H3's VAE of picture ("h3") or sound ("h3 sound")."""
    import comfy.ldm.minimax.audio_vae as sound
    import comfy.ldm.minimax.vae as picture

    with narrow():
        module = sound.MiniMaxH3AudioVAE() if name == "h3 sound" else picture.MiniMaxH3VideoVAE()
    quiet = {"decoder.conv_post.weight": 0.05}  # or every sample would be clipped
    return {key: value * quiet.get(key, 1.0) for key, value in weights(module, seed).items()}


def weights(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random weights that keep the size of what passes through."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(key: str, value: Tensor) -> Tensor:
        scales = any(part in key for part in ("gamma", "std", "scale")) or (value.ndim == 1 and "norm" in key)
        if scales and not key.endswith("bias"):
            return torch.ones(value.shape)
        if value.ndim < 2:
            return torch.zeros(value.shape)
        return torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5

    return {key: drawn(key, value) for key, value in module.state_dict().items()}


@contextmanager
def narrow() -> Iterator[None]:
    """Core makes these VAEs of the widths of these files."""
    with ExitStack() as undo:
        for (module, name), widths in NARROW.items():
            undo.enter_context(_narrowed(module, name, widths))
        yield


@contextmanager
def _narrowed(module: str, name: str, widths: dict[str, Any]) -> Iterator[None]:
    """One class made narrower, where this host has it."""
    try:
        place = import_module(module)
    except ModuleNotFoundError:
        yield
        return
    original = getattr(place, name)
    setattr(place, name, lambda *rest, **given: original(*rest, **{**given, **widths}))
    try:
        yield
    finally:
        setattr(place, name, original)
