"""Write captions word by word, with the keys and values of what stands before kept: greedily, or drawn by a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..transfer import sent
from .network import CaptionNetwork, causal_sdpa
from .vocabulary import Vocabulary

MAX_PIECES = 160
TOP_P = 0.9


class Remembered:
    """An attention kernel that adds each call's keys and values to those of the calls before."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, _mask: Tensor | None = None) -> Tensor:
        """Causal attention of q (B, K, n, d) to all keys so far."""
        self.keys = k if self.keys is None else torch.cat([self.keys, k], dim=2)
        self.values = v if self.values is None else torch.cat([self.values, v], dim=2)
        return causal_sdpa(q, self.keys, self.values)


@torch.no_grad()
def write_captions(
    network: CaptionNetwork,
    vocabulary: Vocabulary,
    latents: Tensor,
    *,
    detailed: bool = True,
    temperature: float = 0.0,
    seed: int = 0,
    max_pieces: int = MAX_PIECES,
    on_wait: Callable[[], None] = lambda: None,
) -> list[str]:
    """One caption for each of the latents (B, C, T, H, W).

    temperature 0 takes the likeliest word; above, words are drawn from the likeliest that make up TOP_P, by a generator
    on the CPU. on_wait is called before each word and may raise to stop.
    """
    weight = next(network.parameters())
    generator = torch.Generator().manual_seed(seed)
    memories = [Remembered() for _ in range(network.config.depth)]
    x = network.prefix(latents.to(weight))
    count, place = len(latents), 0
    latest = torch.full((count,), vocabulary.starts[detailed])
    written: list[Tensor] = []
    ended = torch.zeros(count, dtype=torch.bool)
    x = torch.cat([x, network.decoder.words(sent(latest, weight.device))[:, None]], dim=1)
    while len(written) < max_pieces and not ended.all():
        on_wait()
        hidden = network.decoder(x, place, memories)
        place += x.shape[1]
        logits = network.decoder.head(hidden[:, -1]).float().cpu()  # (B, V); all that a word waits for
        logits[:, vocabulary.never] = -torch.inf
        latest = choose(logits, temperature, generator)
        latest = torch.where(ended, vocabulary.end, latest)
        ended |= latest == vocabulary.end
        written.append(latest)
        x = network.decoder.words(sent(latest, weight.device))[:, None]
    rows = torch.stack(written, dim=1).tolist()
    return [vocabulary.decode(row) for row in rows]


def choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Ids (B,) from logits (B, V): the likeliest, or drawn from the fewest words that have TOP_P of the odds."""
    if temperature <= 0:
        return logits.argmax(dim=-1)
    odds, order = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    odds = odds.masked_fill(odds.cumsum(dim=-1) - odds >= TOP_P, 0.0)
    drawn = torch.multinomial(odds, 1, generator=generator)
    return order.gather(1, drawn)[:, 0]
