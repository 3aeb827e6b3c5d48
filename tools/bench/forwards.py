"""Our DiT beside diffusers' transformers at equal shapes. A part of the speed benchmark.

Equal: hidden size, depth, heads, number of patches, length of the text, cost of the MLP, dtype. Not equal: the weights,
which are random on both sides, and details of the design. Ours has in all cases RMS-normed queries and keys, rotary
positions, a gated MLP and one adaLN for all blocks. Ours prepares the text once per run, as it does in use; diffusers'
modules have no place for that.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ...models.patches import Grid
from ...models.precision import cpu_multiplies_bf16
from ...models.transformer.attention import Kernel, sdpa
from ...models.transformer.config import DiTConfig
from ...models.transformer.dit import DiT
from .timing import paired

ROUNDS = {256: 9, 1024: 5, 4096: 3}
PRODUCTS = ("mm", "softmax", "dot_product_attention", "mkldnn_linear")  # in the names of torch's operations
LATENT_FRAMES = 16  # of Latte
Run = Callable[[], Any]


class Shape(NamedTuple):
    """What both sides share."""

    hidden: int
    depth: int
    heads: int
    text: int  # tokens


SHAPES = {
    "dit_s": Shape(384, 12, 6, 0),
    "dit_b": Shape(768, 12, 12, 0),
    "latte": Shape(384, 12, 6, 120),
    "wan": Shape(384, 12, 3, 512),  # heads of 128 channels, as in Wan
}
NOTES = {
    "dit_s": "DiTTransformer2DModel, class labels",
    "dit_b": "DiTTransformer2DModel, class labels",
    "latte": "LatteTransformer3DModel, space and time in turn, text of 120",
    "wan": "WanTransformer3DModel, text of 512",
}


def forwards(
    tokens: Iterable[int] = (256, 1024, 4096), names: Iterable[str] = tuple(SHAPES)
) -> Iterable[dict[str, Any]]:
    """Rows name, ours, reference (CPU seconds of one forward pass), ratio = reference / ours, bound, note.

    bound: the ratio if ours did nothing but matrix products and attention, at the rate that it does them.
    """
    dtype = forward_dtype()
    for name in names:
        for count in tokens:
            with torch.inference_mode():
                both = pair(name, count, dtype)
                ours, reference = paired(*both, rounds=ROUNDS.get(count, 3))
                ratio, share = reference / ours, share_of_products(both[0])
            note = f"{NOTES[name]}, {str(dtype).removeprefix('torch.')}; equal shapes, other weights"
            row = {"name": f"forward_{name}_{count}", "ours": ours, "reference": reference, "ratio": ratio}
            yield row | {"bound": ratio / share, "note": note}


def share_of_products(run: Run) -> float:
    """The share of a pass that goes into matrix products and attention."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    times = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    return sum(time for key, time in times.items() if any(word in key for word in PRODUCTS)) / sum(times.values())


def forward_dtype() -> torch.dtype:
    """bfloat16 where the CPU multiplies it in hardware."""
    return torch.bfloat16 if cpu_multiplies_bf16() else torch.float32


def pair(name: str, tokens: int, dtype: torch.dtype) -> tuple[Run, Run]:
    """One forward pass of ours and of diffusers'."""
    torch.manual_seed(0)
    builders = {"dit_s": dit, "dit_b": dit, "latte": latte, "wan": wan}
    return builders[name](SHAPES[name], tokens, dtype)


def ours(shape: Shape, latents: Tensor, *, text_width: int = 4096, attention: Kernel = sdpa) -> Run:
    """A forward pass of our DiT; without a text it has class labels.

    With an attention of its own, as in Latte, only every second block has text.
    """
    config = DiTConfig(
        in_channels=latents.shape[1],
        hidden_size=shape.hidden,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=8 / 3,
        patch=(1, 2, 2),
        context_dim=text_width if shape.text else 0,
        num_classes=0 if shape.text else 1000,
        prediction="velocity",
        learned_variance=not shape.text,
    )
    model = frozen(DiT(config), latents.dtype)
    context = torch.randn(1, shape.text, text_width).to(latents) if shape.text else None
    with torch.inference_mode():
        prepared = model.prepare([Grid.of(latents, config.patch)], context)
    if attention is not sdpa:
        prepared = prepared._replace(texts=[text if i % 2 == 0 else None for i, text in enumerate(prepared.texts)])
    labels = None if shape.text else torch.tensor([3])
    return lambda: model(latents, torch.tensor([0.5]), prepared=prepared, labels=labels, attention=attention)


def frozen(model: nn.Module, dtype: torch.dtype) -> Any:
    """The model with random weights everywhere: zeros could take short cuts."""
    model = model.to(dtype).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    return model


def dit(shape: Shape, tokens: int, dtype: torch.dtype) -> tuple[Run, Run]:
    """An image of tokens patches with a class label."""
    from diffusers import DiTTransformer2DModel

    side = 2 * int(tokens**0.5)
    latents = torch.randn(1, 4, side, side).to(dtype)
    settings = {"norm_type": "ada_norm_zero", "norm_elementwise_affine": False, "activation_fn": "gelu-approximate"}
    reference = frozen(
        DiTTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.hidden // shape.heads,
            in_channels=4,
            out_channels=8,
            num_layers=shape.depth,
            sample_size=side,
            patch_size=2,
            num_embeds_ada_norm=1000,
            **settings,
        ),
        dtype,
    )
    step, label = torch.tensor([500]), torch.tensor([3])
    return ours(shape, latents[:, :, None]), lambda: reference(latents, timestep=step, class_labels=label)


def latte(shape: Shape, tokens: int, dtype: torch.dtype) -> tuple[Run, Run]:
    """A clip of 16 frames; blocks attend within a frame (and to the text) and along time in turn, on both sides."""
    from diffusers import LatteTransformer3DModel

    side = 2 * int((tokens // LATENT_FRAMES) ** 0.5)
    latents = torch.randn(1, 4, LATENT_FRAMES, side, side).to(dtype)
    context = torch.randn(1, shape.text, 4096).to(dtype)
    settings = {"norm_type": "ada_norm_single", "norm_elementwise_affine": False, "activation_fn": "gelu-approximate"}
    reference = frozen(
        LatteTransformer3DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.hidden // shape.heads,
            in_channels=4,
            out_channels=4,
            num_layers=shape.depth // 2,
            cross_attention_dim=shape.hidden,
            attention_bias=True,
            sample_size=side,
            patch_size=2,
            num_embeds_ada_norm=1000,
            norm_eps=1e-6,
            caption_channels=4096,
            video_length=LATENT_FRAMES,
            **settings,
        ),
        dtype,
    )
    step = torch.tensor([500])
    run = ours(shape, latents, attention=space_and_time(LATENT_FRAMES))
    return run, lambda: reference(latents, timestep=step, encoder_hidden_states=context)


def space_and_time(frames: int) -> Kernel:
    """Attention within frames and along time by turns; attention to a text (another length) is left as it is."""
    turn = itertools.cycle(("b k (t s) d -> (b t) k s d", "b k (t s) d -> (b s) k t d"))

    def kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if k.shape[2] != q.shape[2]:
            return sdpa(q, k, v, mask)
        pattern = next(turn)
        out = sdpa(*(rearrange(x, pattern, t=frames) for x in (q, k, v)))
        _, parts = pattern.split(" -> ")
        back: Tensor = rearrange(out, f"{parts} -> b (t s) k d", t=frames, b=q.shape[0])
        return back.transpose(1, 2)  # heads and channels then lie side by side, as the next layer wants them

    return kernel


def wan(shape: Shape, tokens: int, dtype: torch.dtype) -> tuple[Run, Run]:
    """A clip with full attention over space and time and a long text."""
    from diffusers import WanTransformer3DModel

    frames = 16 if tokens == 4096 else 4
    side = 2 * int((tokens // frames) ** 0.5)
    latents, context = torch.randn(1, 16, frames, side, side).to(dtype), torch.randn(1, shape.text, 4096).to(dtype)
    reference = frozen(
        WanTransformer3DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.hidden // shape.heads,
            text_dim=4096,
            ffn_dim=4 * shape.hidden,
            num_layers=shape.depth,
        ),
        dtype,
    )
    step = torch.tensor([500])
    return ours(shape, latents), lambda: reference(latents, timestep=step, encoder_hidden_states=context)
