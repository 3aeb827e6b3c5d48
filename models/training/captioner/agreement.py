"""How much each word of a caption tells about its clip: what the captions of one clip agree on.

A clip has several captions in other words. One that they share, and that captions of other clips rarely have ("left",
"red"), is about the clip; one that every caption has ("the"), or that depends on who writes ("leaps" where others say
"bounces"), is not. Words of the second kind are most of a caption, and with equal weights they are most of what is
learned from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

LEAST = 0.1  # weight of a word that tells nothing: grammar must be learned as well


def word_weights(clips: Iterable[Sequence[Sequence[int]]], vocabulary: int) -> Tensor:
    """Weights (vocabulary,), mean 1 over the captions' words, from each clip's captions as ids; 1 without a second one.

    A word's weight is LEAST + max(0, p log(p / q)): p the odds that another caption of the clip has it too, q that any
    caption has it. This is its part of the information that captions of one clip have about each other.
    """
    holding, repeated, chances, uses = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    total = 0
    for captions in clips:
        total += len(captions)
        counts = Counter(word for caption in captions for word in set(caption))
        uses.update(word for caption in captions for word in caption)
        for word, count in counts.items():
            holding[word] += count
            repeated[word] += count * (count - 1)
            chances[word] += count * (len(captions) - 1)
    weights = torch.zeros(vocabulary)
    for word, count in holding.items():
        odds = repeated[word] / max(chances[word], 1)
        if odds:
            weights[word] = odds * max(0.0, float(torch.tensor(odds * total / count).log()))
    weights += LEAST
    used = torch.tensor([float(uses[word]) for word in range(vocabulary)])
    return weights / ((weights * used).sum() / used.sum().clamp(min=1))
