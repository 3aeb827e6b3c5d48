"""Published transformers built by others, small and random: what `bench parity` compares with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .tiny_models import random_state

CLASSES, TEXT, BLOCKS = 10, 32, 4
Answer = Callable[[Tensor, Tensor, Any], Tensor]  # (state as the model sees it, its time, condition) -> its answer


@dataclass(frozen=True)
class Reference:
    """A published model built by others: its weights in the published layout, and what it answers."""

    family: str
    state: dict[str, Tensor]
    answer: Answer
    shape: tuple[int, ...]  # of its latents, without the batch
    conditions: tuple[Any, Any]  # what is asked for, and what is guided away from


def references() -> list[Reference]:
    """One for each family and layout."""
    return [
        dit("DiT (diffusers' file)", meta=False),
        dit("DiT (Meta's file)", meta=True),
        dit("SiT", meta=True),  # the same network: only its units differ
        latte_classes(),
        latte_text(),
        open_sora(),
    ]


def dit_of_diffusers(*, meta: bool) -> tuple[Any, dict[str, Tensor]]:
    """diffusers' DiT, small and random, and its state dict; with `meta` it computes as Meta's code does."""
    from diffusers import DiTTransformer2DModel

    module = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=64, out_channels=8, num_layers=BLOCKS, num_embeds_ada_norm=CLASSES
    ).eval()
    state = random_state(module, 1)
    # every block holds a copy of the embedders of time and class
    first = {key: value for key, value in state.items() if key.startswith("transformer_blocks.0.norm1.emb.")}
    for block in range(BLOCKS):
        state |= {key.replace("blocks.0.", f"blocks.{block}."): value for key, value in first.items()}
    module.load_state_dict(state)
    if meta:
        for block in module.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 0
            block.norm3.eps = 1e-6
    return module, state


def dit(name: str, *, meta: bool) -> Reference:
    """diffusers' DiT, or with its weights under Meta's names and Meta's embedding of time."""
    module, state = dit_of_diffusers(meta=meta)

    def answer(x: Tensor, time: Tensor, label: int) -> Tensor:
        labels = torch.full((len(x),), label)
        return module(x, time.expand(len(x)), class_labels=labels).sample

    weights = meta_names(state) | {"pos_embed": module.pos_embed.pos_embed} if meta else state
    return Reference(name, weights, answer, (4, 32, 32), (3, CLASSES))


def meta_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DiT of diffusers under the names of Meta's file, written by hand from both sources."""
    emb = "transformer_blocks.0.norm1.emb"
    pairs = {
        "x_embedder.proj": "pos_embed.proj",
        "t_embedder.mlp.0": f"{emb}.timestep_embedder.linear_1",
        "t_embedder.mlp.2": f"{emb}.timestep_embedder.linear_2",
        "final_layer.linear": "proj_out_2",
        "final_layer.adaLN_modulation.1": "proj_out_1",
    }
    for i in range(BLOCKS):
        pairs |= {
            f"blocks.{i}.attn.proj": f"transformer_blocks.{i}.attn1.to_out.0",
            f"blocks.{i}.mlp.fc1": f"transformer_blocks.{i}.ff.net.0.proj",
            f"blocks.{i}.mlp.fc2": f"transformer_blocks.{i}.ff.net.2",
            f"blocks.{i}.adaLN_modulation.1": f"transformer_blocks.{i}.norm1.linear",
        }
    out = {"y_embedder.embedding_table.weight": state[f"{emb}.class_embedder.embedding_table.weight"]}
    for kind in ("weight", "bias"):
        out |= {f"{ours}.{kind}": state[f"{theirs}.{kind}"] for ours, theirs in pairs.items()}
        for i in range(BLOCKS):
            attention = f"transformer_blocks.{i}.attn1"
            out[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat([state[f"{attention}.to_{part}.{kind}"] for part in "qkv"])
    return out


def latte_classes(frames: int = 4) -> Reference:
    """Latte with classes (arXiv 2401.03048, variant 1): DiT's blocks in turn over space and over time."""
    from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid

    module, state = dit_of_diffusers(meta=True)
    size = 128
    moments = get_1d_sincos_pos_embed_from_grid(size, torch.arange(frames), output_type="pt").float()

    def answer(x: Tensor, time: Tensor, label: int) -> Tensor:
        batch, channels, count, height, width = x.shape
        labels = torch.full((batch,), label)
        time = time.expand(batch)
        h = module.pos_embed(x.transpose(1, 2).reshape(batch * count, channels, height, width))
        for index, block in enumerate(module.transformer_blocks):
            places = h.shape[1]
            if index % 2 == 0:
                h = block(h, timestep=time.repeat_interleave(count), class_labels=labels.repeat_interleave(count))
                continue
            h = h.reshape(batch, count, places, size).transpose(1, 2).reshape(batch * places, count, size)
            h = h + moments if index == 1 else h
            h = block(h, timestep=time.repeat_interleave(places), class_labels=labels.repeat_interleave(places))
            h = h.reshape(batch, places, count, size).transpose(1, 2).reshape(batch * count, places, size)
        both = (
            module.transformer_blocks[0].norm1.emb(time, labels, hidden_dtype=h.dtype).repeat_interleave(count, dim=0)
        )
        shift, scale = module.proj_out_1(torch.nn.functional.silu(both))[:, None].chunk(2, dim=-1)
        h = module.proj_out_2(module.norm_out(h) * (1 + scale) + shift)
        rows = height // 2
        h = h.reshape(batch, count, rows, rows, 2, 2, 8).permute(0, 6, 1, 2, 4, 3, 5)
        return h.reshape(batch, 8, count, height, width)

    weights = meta_names(state) | {"temp_embed": moments[None]}
    return Reference("Latte with classes", weights, answer, (4, frames, 16, 16), (3, CLASSES))


def latte_text() -> Reference:
    """diffusers' Latte-1."""
    from diffusers import LatteTransformer3DModel

    module = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=64,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        patch_size=2,
        cross_attention_dim=128,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=TEXT,
        video_length=3,
    ).eval()
    state = random_state(module, 2)
    module.load_state_dict(state)
    generator = torch.Generator().manual_seed(5)
    texts = torch.randn(1, 6, TEXT, generator=generator), torch.randn(1, 6, TEXT, generator=generator)

    def answer(x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        text = text.expand(len(x), -1, -1)
        return module(x, timestep=time.expand(len(x)), encoder_hidden_states=text).sample

    return Reference("Latte-1", state, answer, (4, 3, 32, 32), texts)


def open_sora(frames: int = 3, side: int = 16) -> Reference:
    """STDiT3 as its code describes it (Open-Sora v1.2, stdit3.py), in plain functions of its state dict."""
    from ...models.published.stdit import OpenSoraConfig, OpenSoraTransformer

    size, heads = 144, 2
    config = OpenSoraConfig(
        in_channels=4,
        out_channels=8,
        hidden_size=size,
        depth=2,
        num_heads=heads,
        inner_size=4 * size,
        patch=2,
        context_dim=TEXT,
        text_length=6,
    )
    state = random_state(OpenSoraTransformer(config), 7)  # for its names and shapes alone
    state["rope.freqs"] = 1.0 / 10_000 ** (torch.arange(0, size // heads, 2) / (size // heads))
    network = STDiT3(state, heads)
    generator = torch.Generator().manual_seed(5)
    texts = torch.randn(1, 6, TEXT, generator=generator), torch.randn(1, 6, TEXT, generator=generator)

    def answer(x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return network(x, time.expand(len(x)), text.expand(len(x), -1, -1))

    return Reference("Open-Sora", state, answer, (4, frames, side, side), texts)


class STDiT3:
    """STDiT3 in plain functions of its state dict; two pairs of blocks."""

    def __init__(self, weights: dict[str, Tensor], heads: int) -> None:
        self.weights, self.heads = weights, heads

    def linear(self, name: str, value: Tensor) -> Tensor:
        return functional.linear(value, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def two(self, name: str, layers: tuple[str, str], value: Tensor, between: Callable[[Tensor], Tensor]) -> Tensor:
        return self.linear(f"{name}.{layers[1]}", between(self.linear(f"{name}.{layers[0]}", value)))

    def embedded(self, name: str, value: Tensor) -> Tensor:
        from diffusers.models.embeddings import get_timestep_embedding

        features = get_timestep_embedding(value, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.two(f"{name}.mlp", ("0", "2"), features, functional.silu)

    def split(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def rms(self, name: str, value: Tensor) -> Tensor:
        return self.weights[f"{name}.weight"] * value * (value.square().mean(-1, keepdim=True) + 1e-6).rsqrt()

    def rotate(self, value: Tensor) -> Tensor:
        angles = torch.arange(value.shape[2])[:, None] * self.weights["rope.freqs"]
        pairs = torch.view_as_complex(value.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    def attention(self, name: str, value: Tensor, *, along_time: bool) -> Tensor:
        q, k, v = (self.split(part) for part in self.linear(f"{name}.qkv", value).chunk(3, dim=-1))
        q, k = self.rms(f"{name}.q_norm", q), self.rms(f"{name}.k_norm", k)
        q, k = (self.rotate(q), self.rotate(k)) if along_time else (q, k)
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.linear(f"{name}.proj", out.transpose(1, 2).flatten(-2))

    def crossed(self, name: str, value: Tensor, text: Tensor) -> Tensor:
        k, v = (self.split(part) for part in self.linear(f"{name}.kv_linear", text).chunk(2, dim=-1))
        out = functional.scaled_dot_product_attention(self.split(self.linear(f"{name}.q_linear", value)), k, v)
        return self.linear(f"{name}.proj", out.transpose(1, 2).flatten(-2))

    def block(self, name: str, h: Tensor, modulation: Tensor, text: Tensor, *, along_time: bool) -> Tensor:
        batch, size = len(h), h.shape[-1]
        table = (self.weights[f"{name}.scale_shift_table"] + modulation)[:, :, None]
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = table.unbind(1)
        sequence = h.reshape(batch, -1, size)
        seen = (norm(sequence) * (1 + scale) + shift).reshape(h.shape)
        if along_time:
            seen = seen.transpose(1, 2)
        seen = self.attention(f"{name}.attn", seen.flatten(0, 1), along_time=along_time).unflatten(0, (batch, -1))
        if along_time:
            seen = seen.transpose(1, 2)
        sequence = sequence + gate * seen.reshape(batch, -1, size)
        sequence = sequence + self.crossed(f"{name}.cross_attn", sequence, text)
        inner = norm(sequence) * (1 + mlp_scale) + mlp_shift
        return (sequence + mlp_gate * self.two(f"{name}.mlp", ("fc1", "fc2"), inner, gelu)).reshape(h.shape)

    def __call__(self, x: Tensor, time: Tensor, text: Tensor, fps: float = 24.0) -> Tensor:
        """One forward pass; x (B, 4, T, H, H)."""
        from diffusers.models.embeddings import get_2d_sincos_pos_embed

        batch, _, frames, height, _ = x.shape
        rows = height // 2
        t = self.embedded("t_embedder", time) + self.embedded("fps_embedder", torch.full_like(time, fps))
        modulation = self.linear("t_block.1", functional.silu(t)).unflatten(-1, (6, -1))
        y = self.two("y_embedder.y_proj", ("fc1", "fc2"), text, gelu)
        weight, bias = (self.weights[f"x_embedder.proj.{kind}"] for kind in ("weight", "bias"))
        h = functional.conv3d(x, weight, bias, stride=(1, 2, 2)).flatten(3).permute(0, 2, 3, 1)  # (B, T, S, D)
        scale = 8 * height / 512
        places = get_2d_sincos_pos_embed(y.shape[-1], rows, base_size=rows, interpolation_scale=scale, output_type="pt")
        h = h + places.float()
        for index in range(2):
            h = self.block(f"spatial_blocks.{index}", h, modulation, y, along_time=False)
            h = self.block(f"temporal_blocks.{index}", h, modulation, y, along_time=True)
        shift, spread = (self.weights["final_layer.scale_shift_table"] + t[:, None])[:, :, None].unbind(1)
        out = self.linear("final_layer.linear", norm(h.reshape(batch, -1, y.shape[-1])) * (1 + spread) + shift)
        out = out.reshape(batch, frames, rows, rows, 2, 2, 8).permute(0, 6, 1, 2, 4, 3, 5)
        return out.reshape(batch, 8, frames, height, height)


def gelu(value: Tensor) -> Tensor:
    """GELU in its tanh form."""
    return functional.gelu(value, approximate="tanh")


def norm(value: Tensor) -> Tensor:
    """Layer norm without weights."""
    return functional.layer_norm(value, value.shape[-1:], eps=1e-6)
