"""Files of LTX-2 and MiniMax-H3 with their text encoders, Gemma 3 12B and Qwen3-VL 32B, tiny and random.

Core fixes the widths of both encoders, so they are made narrower in this host; layers, by which it tells one from the
other, and words are as published.
"""

import json
from importlib import import_module
from typing import Any

import comfy.ops
import comfy.text_encoders.qwen3vl as qwen
import torch
from comfy.text_encoders import llama, minimax
from torch import Tensor

from .files import families, tiny_models, tiny_vaes, vocabulary, wrapped, write

GEMMA = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
EYE = {
    "num_channels": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 32,
    "image_size": 896,
    "intermediate_size": 16,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "patch_size": 14,
}
QWEN = GEMMA | {"vocab_size": 512}
QWEN_EYE = {
    "hidden_size": 32,
    "intermediate_size": 16,
    "depth": 1,
    "deepstack_visual_indexes": [0],
    "num_heads": 1,
    "num_position_embeddings": 16,
}
WideGemma, WideQwen = llama.Gemma3_12B, minimax.MiniMaxQwen3VL


class NarrowGemma(WideGemma):
    """Core's Gemma 3 12B with 32 instead of 3840 channels and 256 words, which others share."""

    def __init__(self, config: dict[str, Any], *rest: Any) -> None:
        super().__init__({**config, **GEMMA}, *rest)
        wrapped(self.model.embed_tokens)


class NarrowQwen(WideQwen):
    """Core's Qwen3-VL 32B as MiniMax-H3 has it, with 32 instead of 5120 channels and 512 words."""

    def __init__(self, config: dict[str, Any], *rest: Any) -> None:
        super().__init__({**config, **QWEN}, *rest)
        wrapped(self.model.embed_tokens)


def network(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a family's network, and what it is made with."""
    family = families.FAMILIES[name]
    kind = getattr(import_module(family.network[0]), family.network[1])
    settings = families._known(kind, family.settings)
    module = kind(**settings, operations=comfy.ops.disable_weight_init)
    state = tiny_models.random_state(module, 0)
    return {key: value * family.scale for key, value in state.items()}, dict(family.settings)


def encoder(kind: type, seed: int) -> dict[str, Tensor]:
    """A text encoder in fp16."""
    module = kind({}, torch.float16, "cpu", comfy.ops.disable_weight_init)
    return {key: value.half() for key, value in tiny_models.random_state(module, seed).items()}


def write_ltx2() -> None:
    """One file with network, both VAEs and what fits its words to the network, and one with Gemma."""
    state, settings = network("ltx-2")
    sound, header = tiny_vaes.ltx_audio_content()
    width = settings["connector_attention_head_dim"] * settings["connector_num_attention_heads"]
    fitting = torch.randn(width, GEMMA["hidden_size"] * 49, generator=torch.Generator().manual_seed(5)) / 40
    whole = {f"model.diffusion_model.{key}": value for key, value in state.items()}
    whole |= {f"vae.{key}": value for key, value in tiny_vaes.file_content("ltx")[0].items()}
    whole |= {key.replace("autoencoder.", "audio_vae."): value for key, value in sound.items()}
    whole |= {"text_embedding_projection.aggregate_embed.weight": fitting}
    config = {"transformer": settings, "vae": tiny_vaes.LTX} | json.loads(header["config"])
    write("checkpoints", "ltx-2-19b-dev-fp8.safetensors", whole, {"config": json.dumps(config)})
    words = {"spiece_model": vocabulary(pad_id=0, eos_id=1, bos_id=2, unk_id=3)}
    write("text_encoders", "gemma_3_12B_it_fp4_mixed.safetensors", encoder(NarrowGemma, 6) | words)


def write_h3() -> None:
    """MiniMax-H3's four files."""
    state, _ = network("minimax h3")
    write("diffusion_models", "minimax_h3_fl2va_pruned_int8_convrot.safetensors", state)
    write("text_encoders", "qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors", encoder(NarrowQwen, 7))
    write("vae", "minimax_h3_video_vae_fp16.safetensors", tiny_vaes.file_content("h3")[0])
    write("vae", "minimax_h3_audio_vae_fp32.safetensors", tiny_vaes.file_content("h3 sound")[0])


llama.Gemma3_12B_Config.vision_config = EYE
llama.Gemma3_12B_Config.head_dim = 16
qwen.QWEN3VL_VISION["qwen3vl_32b"] = QWEN_EYE
llama.Gemma3_12B, minimax.MiniMaxQwen3VL = NarrowGemma, NarrowQwen
write_ltx2()
write_h3()
