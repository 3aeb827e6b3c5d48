"""Tiny random video VAEs of published architectures, in their key layout and read by ComfyUI's own loader.

They need the host (`comfy`) on the path. Core reads the sizes of Wan 2.1's and LTX-Video's VAE from the file and fixes
those of Wan 2.2's, so that class is made narrower while it is read.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NAMES = ("wan2.1", "wan2.2", "ltx")
WAN = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [False, True, True]}
NARROW = {"dim": 8, "dec_dim": 8}
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

    state, metadata = file_content(name)
    with narrow_wan22():
        loaded = comfy.sd.VAE(sd=state, metadata=metadata)
    loaded.throw_exception_if_invalid()
    return loaded


def file_content(name: str, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata as they stand in a file."""
    import comfy.ldm.lightricks.vae.causal_video_autoencoder as ltx
    import comfy.ldm.wan.vae
    import comfy.ldm.wan.vae2_2

    if name == "wan2.1":
        return weights(comfy.ldm.wan.vae.WanVAE(dim=NARROW["dim"], z_dim=16, **WAN), seed), {}
    if name == "wan2.2":
        return weights(comfy.ldm.wan.vae2_2.WanVAE(z_dim=48, **NARROW, **WAN), seed), {}
    return weights(ltx.VideoVAE(config=LTX), seed), {"config": json.dumps({"vae": LTX})}


def weights(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random weights that keep the size of what passes through."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(key: str, value: Tensor) -> Tensor:
        if "gamma" in key or "std" in key:
            return torch.ones(value.shape)
        if "mean" in key or value.ndim < 2:
            return torch.zeros(value.shape)
        return torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5

    return {key: drawn(key, value) for key, value in module.state_dict().items()}


@contextmanager
def narrow_wan22() -> Iterator[None]:
    """Core makes Wan 2.2's VAE of the widths of these files."""
    import comfy.ldm.wan.vae2_2 as module

    original = module.WanVAE
    module.WanVAE = lambda **given: original(**{**given, **NARROW})
    try:
        yield
    finally:
        module.WanVAE = original
