"""all-MiniLM-L6-v2, a BERT of 6 layers and width 384, in plain torch: the text features of the embedded model.

Architecture: Devlin et al. 2018 (arXiv 1810.04805), post-norm, erf GELU. The weights are those of
sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), rounded to fp16; they lie in models/weights/all-MiniLM-L6-v2.

In ComfyUI its own BERT runs instead, with these weights (nodes/host/words/text_encoder.py), since weighted words, LoRA,
offloading and casting hang on core's classes; this one is for training and for scripts, where there is no ComfyUI. A
test holds both equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ..files import read_tensors
from .tokenizer import WordPieceTokenizer

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "all-MiniLM-L6-v2"
RESTORE = "it comes with the pack, so fetch it again (in the pack's folder: git checkout -- models/weights)"
MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was fine-tuned on; longer prompts are cut
HIDDEN_SIZE = 384
# names of the published checkpoint on the left, ours on the right
LAYER_NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "mlp_norm",
}
EMBEDDING_NAMES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
}


class BertLayer(nn.Module):
    """Self-attention and an MLP, each followed by a residual LayerNorm."""

    def __init__(self, hidden_size: int, num_heads: int, intermediate: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.up = nn.Linear(hidden_size, intermediate)
        self.down = nn.Linear(intermediate, hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, D), mask (B, L) with True for real tokens."""
        q, k, v = (
            rearrange(project(x), "b l (k d) -> b k l d", k=self.num_heads)
            for project in (self.query, self.key, self.value)
        )
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])  # (B, K, L, D/K)
        x = self.attention_norm(x + self.out(rearrange(attended, "b k l d -> b l (k d)")))
        return self.mlp_norm(x + self.down(gelu(self.up(x))))


class TextEncoder(nn.Module):
    """Prompts to one feature vector per token. Frozen: it never needs gradients."""

    def __init__(
        self,
        tokenizer: WordPieceTokenizer,
        *,
        num_layers: int = 6,
        num_heads: int = 12,
        hidden_size: int = HIDDEN_SIZE,
        intermediate: int = 1536,
        max_positions: int = 512,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.words = nn.Embedding(len(tokenizer.tokens), hidden_size)
        self.positions = nn.Embedding(max_positions, hidden_size)
        self.types = nn.Embedding(2, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(hidden_size, num_heads, intermediate) for _ in range(num_layers))
        self.requires_grad_(False)
        self.eval()

    def encode_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features (B, L, 384) of ids (B, L); mask (B, L) is True for real tokens."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(positions) + self.types.weight[0])  # (B, L, D)
        for layer in self.layers:
            x = layer(x, mask)
        return x

    @torch.no_grad()
    def forward(self, prompts: Sequence[str], device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """Context (B, L, 384) float32 and mask (B, L) bool, padded to the longest prompt; padding is zero.

        The unconditional prompt is "". `device` is where the result goes; the work is done where the weights are.
        """
        if isinstance(prompts, str):
            raise ValueError(f"give a list of prompts, not one string: [{prompts!r}]")
        if not prompts:
            raise ValueError('the list of prompts is empty: the unconditional prompt is [""]')
        rows, lengths = self.tokenizer.encode_batch(prompts, MAX_TOKENS)
        home = self.words.weight.device
        ids = torch.tensor(rows, dtype=torch.long, device=home)  # (B, L)
        mask = torch.arange(ids.shape[1], device=home) < torch.tensor(lengths, device=home)[:, None]  # (B, L)
        context = self.encode_ids(ids, mask).float() * mask[..., None]
        return context.to(device or home), mask.to(device or home)


def text_encoder_files() -> tuple[Path, Path]:
    """Paths of the weights and of the vocabulary. ValueError when one is missing."""
    weights, vocabulary = FOLDER / "model.safetensors", FOLDER / "vocab.txt"
    for path in (weights, vocabulary):
        if not path.is_file():
            raise ValueError(f"the text encoder's file {path} is missing: {RESTORE}")
    return weights, vocabulary


def load_weights(path: Path) -> dict[str, Tensor]:
    """The published BERT's state dict in float32, as the DiT was trained on it. ValueError for a damaged file."""
    try:
        return {name: value.float() for name, value in read_tensors(path)[0].items()}
    except ValueError as error:
        raise ValueError(f"the text encoder's file {path} is damaged ({error}): {RESTORE}") from None


def convert_state(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a published BERT in our names."""
    state: dict[str, Tensor] = {}
    for name, value in published.items():
        module, kind = name.rsplit(".", 1)
        if module in EMBEDDING_NAMES:
            state[f"{EMBEDDING_NAMES[module]}.{kind}"] = value
        elif module.startswith("encoder.layer."):
            index, inner = module.removeprefix("encoder.layer.").split(".", 1)
            state[f"layers.{index}.{LAYER_NAMES[inner]}.{kind}"] = value
    return state


def load_text_encoder(device: torch.device | str = "cpu") -> TextEncoder:
    """The pretrained encoder, float32, in evaluation mode."""
    weights, vocabulary = text_encoder_files()
    encoder = TextEncoder(WordPieceTokenizer.from_file(vocabulary))
    encoder.load_state_dict(convert_state(load_weights(weights)))
    return encoder.to(device)
