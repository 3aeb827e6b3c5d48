"""Latents and text features of clips, cached on disk and read for training.

A cache folder holds shards (shards.py), named by what made them, so building again continues where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoints import Checkpoint
from ..text.encoder import TextEncoder
from ..vae.autoencoder import VideoVAE, fingerprint, weights_mark
from .shards import Shard, mark_of, read_shard


class Example(NamedTuple):
    """One clip of a batch."""

    latents: Tensor  # (C, T, H, W)
    text: Tensor  # (L, E)
    label: str = ""  # name of its class
    known: Tensor | None = None  # (T, h, w, F) features of its patches


@torch.no_grad()
def text_features(encoder: TextEncoder, texts: Sequence[str], batch: int = 32) -> list[Tensor]:
    """Features (L_i, E), bf16, of each text; texts of like length are encoded together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    device = next(encoder.parameters()).device if isinstance(encoder, nn.Module) else torch.device("cpu")
    features: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        with torch.autocast(device.type, torch.bfloat16):
            context, mask = (part.cpu() for part in encoder([texts[i] for i in chosen]))
        for i, row, real in zip(chosen, context, mask, strict=True):
            features[i] = row[real].bfloat16()
    return features


class LatentCache:
    """All shards of a folder in memory, grouped by shape. The order is that of the file names, so runs can resume.

    vae: the mark of the VAE whose latents they are, empty where nothing tells. clips, captions: what stands for them.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        self.names = list(names) if names else sorted(path.name for path in folder.glob("*.safetensors"))
        if not self.names:
            raise ValueError(f"{folder} holds no cached clips: build the cache first")
        self.folder = folder
        self.buckets: dict[str, list[tuple[Tensor, list[Tensor]]]] = {}
        self.captions: dict[str, list[list[str]]] = {}
        self.known: dict[str, list[Tensor]] = {}
        self.classes: dict[str, list[str]] = {}
        self.weights: dict[tuple[str, float], Tensor] = {}  # by size and balance, once they were asked for
        shards = [self._add(*read_shard(folder / name)) for name in self.names]
        vaes = {shard.vae for shard in shards} - {""}
        if len(vaes) > 1:
            raise ValueError(f"{folder} holds latents of {len(vaes)} VAEs: build the cache again, into an empty folder")
        self.vae = vaes.pop() if vaes else ""
        self.clips_mark = mark_of(shard.clips for shard in shards)
        self.captions_mark = mark_of(shard.captions for shard in shards)

    def _add(self, shard: Shard, latents: Tensor, text: Tensor, known: Tensor | None = None) -> Shard:
        texts = iter(text.split([count for row in shard.lengths for count in row]))
        bucket = self.buckets.setdefault(shard.size, [])
        bucket += [(clip, [next(texts) for _ in row]) for clip, row in zip(latents, shard.lengths, strict=True)]
        first, dims = bucket[0], (latents.shape[1:], text.shape[1])
        if (first[0].shape, first[1][0].shape[1]) != dims:
            raise ValueError(f"the clips of {shard.name} have another shape than those before: build the cache again")
        if known is not None:
            self.known.setdefault(shard.size, []).extend(known)
        self.captions.setdefault(shard.size, []).extend(shard.captions)
        self.classes.setdefault(shard.size, []).extend(shard.classes)
        self.weights.clear()
        return shard

    def check_vae(self, mark: str) -> None:
        """ValueError when the latents are another VAE's than the one with this mark (`fingerprint`).

        Nothing tells of caches that were made by hand: they are taken to be this VAE's.
        """
        if self.vae not in ("", mark):
            raise ValueError(
                f"the clips in {self.folder} are latents of another VAE ({self.vae}) than the one given ({mark}): "
                "build the cache with this one, or give the one that made it with --vae"
            )

    def made_from(self, vae: VideoVAE, held_out: LatentCache, init: Checkpoint | None = None) -> dict[str, str]:
        """Marks of all that a run on these clips is made from. ValueError when clips are another VAE's latents."""
        mark = fingerprint(vae)
        for cache in (self, held_out):
            cache.check_vae(mark)
        begun = weights_mark(init.dit_state) if init else ""
        return {"vae": mark, "clips": self.clips_mark, "captions": self.captions_mark, "init": begun}

    @property
    def known_channels(self) -> int:
        """Channels of what is known of the patches. ValueError unless it is known of every clip."""
        counts = {size: len(self.known.get(size, ())) for size in self.buckets}
        without = next((size for size, count in counts.items() if count != len(self.buckets[size])), None)
        if without is not None:
            raise ValueError(
                f"the clips of {without} hold no features to align with: build the cache anew with --truth, or of a "
                "folder of clips with --features, into an empty folder, or leave out --alignment"
            )
        channels = sorted({int(known.shape[-1]) for rows in self.known.values() for known in rows})
        if len(channels) > 1:
            raise ValueError(
                f"the clips hold features of {channels[0]} and of {channels[1]} channels: build the cache again, into "
                "an empty folder, with those of one encoder"
            )
        return channels[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that clips belong to, in alphabetical order."""
        return tuple(sorted({name for names in self.classes.values() for name in names} - {""}))

    def check_balance(self) -> None:
        """ValueError when all clips are of one class, so that there is nothing to balance."""
        if len({name for names in self.classes.values() for name in names}) < 2:
            raise ValueError(
                f"the clips in {self.folder} are all of one class: put each class into a sub-folder, or leave out "
                "--balance"
            )

    def balanced(self, size: str, balance: float) -> Tensor:
        """Weights (clips,) to draw the clips of one bucket by: its class's count to the power of -balance.

        1: all classes alike often, those without a class being one as well; 0: all clips alike often.
        """
        if (size, balance) not in self.weights:
            counts = Counter(self.classes[size])
            self.weights[size, balance] = torch.tensor([counts[name] ** -balance for name in self.classes[size]])
        return self.weights[size, balance]

    def draw(self, size: str, count: int, rng: torch.Generator, balance: float = 0.0) -> list[Example]:
        """`count` random clips of one bucket, all with their first, second or last caption, which have like lengths.

        A clip with fewer captions than others has its own in turn. balance: see `balanced`.
        """
        bucket = self.buckets[size]
        which = int(torch.randint(max(len(texts) for _, texts in bucket), (1,), generator=rng))
        if balance:
            drawn = torch.multinomial(self.balanced(size, balance), count, replacement=True, generator=rng)
        else:
            drawn = torch.randint(len(bucket), (count,), generator=rng)
        chosen = drawn.tolist()
        names = self.classes[size]
        known = self.known.get(size)
        texts = [bucket[i][1][which % len(bucket[i][1])] for i in chosen]
        return [
            Example(bucket[i][0], text, names[i], known[i] if known else None)
            for i, text in zip(chosen, texts, strict=True)
        ]


def stack_text(texts: Sequence[Tensor], sizes: Sequence[int] = (32, 96)) -> tuple[Tensor, Tensor]:
    """Texts (L_i, E) padded with zeros to one length: context (B, L, E) and mask (B, L) bool.

    L is the first of `sizes` that holds the longest, else a multiple of the last: few lengths mean few compiled graphs.
    """
    longest = max(len(text) for text in texts)
    length = next((size for size in sizes if size >= longest), -(-longest // sizes[-1]) * sizes[-1])
    context = texts[0].new_zeros(len(texts), length, texts[0].shape[1])
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        context[row, : len(text)] = text
        mask[row, : len(text)] = True
    return context, mask
