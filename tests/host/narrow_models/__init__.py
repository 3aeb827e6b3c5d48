"""A custom node of the test host: files of Wan 2.2 and LTX-Video, tiny and random, under the names that people have.

Core's own loaders read them. It fixes the widths of some networks (T5, umT5, Wan 2.2's VAE) instead of reading them
from the file, so those classes are made narrower in this host, and T5 is told by its narrow width; key layout, layers,
tokenizers and the rest are core's. Models with sound have their files too where the host knows them.
"""

import json
from pathlib import Path

import comfy.ldm.lightricks.model
import comfy.ldm.wan.model
import comfy.ops
import comfy.sd
import comfy.taesd.taesd
import comfy.text_encoders.t5
import folder_paths
import torch
from torch import Tensor

from .files import families, tiny_models, tiny_vaes, vocabulary, wrapped, write

NODE_CLASS_MAPPINGS: dict[str, type] = {}
T5 = {"d_ff": 8, "d_kv": 8, "num_heads": 1, "vocab_size": 256}
LTX = {
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "num_layers": 2,
    "caption_channels": 4096,
    "cross_attention_dim": 64,
}
WideT5 = comfy.text_encoders.t5.T5
kind_of_text_encoder = comfy.sd.detect_te_model


class NarrowT5(WideT5):
    """Core's T5 with 8 instead of 10240 hidden values and 256 words, which others share."""

    def __init__(self, config: dict, *rest: object) -> None:
        super().__init__({**config, **T5}, *rest)
        wrapped(self.shared)


def kind_of_narrow_text_encoder(state: dict[str, Tensor]) -> object:
    """Core tells T5 by its width: the narrow one is that kind too."""
    width = state.get("encoder.block.23.layer.1.DenseReluDense.wi_1.weight")
    narrow = width is not None and len(width) == T5["d_ff"]
    return comfy.sd.TEModel.T5_XXL if narrow else kind_of_text_encoder(state)


def text_encoder(config: str, seed: int) -> dict[str, Tensor]:
    """T5 or umT5 in fp16."""
    described = json.loads((Path(comfy.text_encoders.t5.__file__).parent / config).read_text(encoding="utf-8"))
    module = NarrowT5(described, torch.float16, "cpu", comfy.ops.disable_weight_init)
    return {key: value.half() for key, value in tiny_models.random_state(module, seed).items()}


def write_wan() -> None:
    """The files of Wan 2.2: 5B, and the two experts of A14B."""
    module = comfy.ldm.wan.model.WanModel(
        dim=128, ffn_dim=16, num_heads=1, num_layers=1, in_dim=48, out_dim=48, operations=comfy.ops.disable_weight_init
    )
    write("diffusion_models", "wan2.2_ti2v_5B_fp16.safetensors", tiny_models.random_state(module, 0))
    write("vae", "wan2.2_vae.safetensors", tiny_vaes.file_content("wan2.2")[0])
    for seed, expert in enumerate(("high", "low")):
        module = comfy.ldm.wan.model.WanModel(
            dim=128, ffn_dim=16, num_heads=1, num_layers=1, operations=comfy.ops.disable_weight_init
        )
        name = f"wan2.2_t2v_{expert}_noise_14B_fp8_scaled.safetensors"
        write("diffusion_models", name, tiny_models.random_state(module, seed))
    write("vae", "wan_2.1_vae.safetensors", tiny_vaes.file_content("wan2.1")[0])
    words = text_encoder("umt5_config_xxl.json", 1) | {
        "spiece_model": vocabulary(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    }
    write("text_encoders", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", words)


def write_ltx() -> None:
    """LTX-Video's checkpoint and its text encoder."""
    module = comfy.ldm.lightricks.model.LTXVModel(**LTX, operations=comfy.ops.disable_weight_init)
    state = {f"model.diffusion_model.{key}": value for key, value in tiny_models.random_state(module, 0).items()}
    state |= {f"vae.{key}": value for key, value in tiny_vaes.file_content("ltx")[0].items()}
    config = {"transformer": LTX, "vae": tiny_vaes.LTX}
    write("checkpoints", "ltx-video-2b-v0.9.5.safetensors", state, {"config": json.dumps(config)})
    write("text_encoders", "t5xxl_fp16.safetensors", text_encoder("t5_config_xxl.json", 2))


def write_dit(size: int = 64, depth: int = 2, classes: int = 1000) -> None:
    """A DiT in Meta's layout, as .pt, and the image VAE that belongs to it (the small kind that core calls TAESD)."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 256, size),
        "x_embedder.proj.weight": (size, 4, 2, 2),
        "x_embedder.proj.bias": (size,),
        "y_embedder.embedding_table.weight": (classes + 1, size),
    }
    linear = {"t_embedder.mlp.0": (size, 256), "t_embedder.mlp.2": (size, size)}
    for i in range(depth):
        linear |= {f"blocks.{i}.attn.qkv": (3 * size, size), f"blocks.{i}.attn.proj": (size, size)}
        linear |= {f"blocks.{i}.mlp.fc1": (4 * size, size), f"blocks.{i}.mlp.fc2": (size, 4 * size)}
        linear |= {f"blocks.{i}.adaLN_modulation.1": (6 * size, size)}
    linear |= {"final_layer.linear": (32, size), "final_layer.adaLN_modulation.1": (2 * size, size)}
    shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=generator) * 0.5 / max(shape[-1], 1) ** 0.5 for name, shape in shapes.items()
    }
    folder = Path(folder_paths.get_folder_paths("diffusion_models")[0])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "DiT-XL-2-256x256.pt")
    decoder = comfy.taesd.taesd.TAESD(latent_channels=4)
    write("vae", "vae-ft-mse-840000-ema-pruned.safetensors", tiny_models.random_state(decoder, 3))


def write_latte(size: int = 64, depth: int = 1) -> None:
    """Latte-1 in diffusers' layout; it reads T5-XXL."""
    linear = {
        "adaln_single.emb.timestep_embedder.linear_1": (size, 256),
        "adaln_single.emb.timestep_embedder.linear_2": (size, size),
        "adaln_single.linear": (6 * size, size),
        "proj_out": (32, size),
        "caption_projection.linear_1": (size, 4096),
        "caption_projection.linear_2": (size, size),
    }
    shapes: dict[str, tuple[int, ...]] = {"scale_shift_table": (2, size)}
    for blocks, attentions in (("transformer_blocks", (1, 2)), ("temporal_transformer_blocks", (1,))):
        for block in (f"{blocks}.{i}" for i in range(depth)):
            shapes[f"{block}.scale_shift_table"] = (6, size)
            for attention in attentions:
                linear |= {f"{block}.attn{attention}.to_{part}": (size, size) for part in ("q", "k", "v", "out.0")}
            linear |= {f"{block}.ff.net.0.proj": (4 * size, size), f"{block}.ff.net.2": (size, 4 * size)}
    shapes |= {"pos_embed.proj.weight": (size, 4, 2, 2), "pos_embed.proj.bias": (size,)}
    shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(shape, generator=generator) * 0.5 / max(shape[-1], 1) ** 0.5 for name, shape in shapes.items()
    }
    write("diffusion_models", "latte-1-transformer.safetensors", state)


write_wan()
write_ltx()
write_dit()
write_latte()
comfy.text_encoders.t5.T5 = NarrowT5
comfy.sd.detect_te_model = kind_of_narrow_text_encoder
narrow_vaes = tiny_vaes.narrow()
narrow_vaes.__enter__()  # for as long as this host runs
if not families.lacking("minimax h3"):
    from . import with_sound  # noqa: F401 - it writes files too
