"""Clips to train on: rendered toy-world clips, and their latents and text features cached on disk.

A cache folder holds safetensors shards; each has `latents` (n, C, T, H, W) bf16 and `text` (all caption tokens in a
row, E) bf16, and a JSON header with the captions, their lengths and the classes. Shards are named by what made them, so
building again continues where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..files import opened, parsed_json, read_tensors, write_tensors
from ..geometry import ClipSize
from ..text.encoder import TextEncoder

SHARD = 100  # clips per file


class Example(NamedTuple):
    """One clip of a batch."""

    latents: Tensor  # (C, T, H, W)
    text: Tensor  # (L, E)
    label: str = ""  # name of its class


@torch.no_grad()
def text_features(encoder: TextEncoder, texts: Sequence[str], batch: int = 32) -> list[Tensor]:
    """Features (L_i, E), bf16, of each text; texts of like length are encoded together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    features: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        with torch.autocast("cpu", torch.bfloat16):
            context, mask = encoder([texts[i] for i in chosen])
        for i, row, real in zip(chosen, context, mask, strict=True):
            features[i] = row[real].bfloat16()
    return features


def write_shard(
    path: Path, latents: Sequence[Tensor], texts: Sequence[list[str]], classes: Sequence[str], size: ClipSize,
    encoder: TextEncoder, fps: float,
) -> None:  # fmt: skip
    """One file of latents (n, C, T, H, W) and text features, as LatentCache reads it."""
    features = text_features(encoder, [line for lines in texts for line in lines])
    counts = iter(features)
    lengths = [[len(next(counts)) for _ in lines] for lines in texts]
    header = {
        "captions": texts, "lengths": lengths, "classes": classes, "cyclic": size.cyclic, "size": str(size), "fps": fps,
    }  # fmt: skip
    tensors = {"latents": torch.stack(list(latents)).bfloat16(), "text": torch.cat(features)}
    write_tensors(path, tensors, {"clips": json.dumps(header)})


def remove_damaged(shard: Path) -> list[str]:
    """Remove a shard that is not whole, so that it is made anew; says so."""
    if not shard.exists():
        return []
    try:
        with opened(shard) as file:
            described = parsed_json((file.metadata() or {})["clips"], shard.name, dict)
            count = file.get_slice("latents").get_shape()[0]
            if count == len(described["captions"]) == len(described["lengths"]) and "text" in file.keys():  # noqa: SIM118
                return []
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shard.unlink()
    return [f"{shard.name} was damaged and is made anew"]


class LatentCache:
    """All shards of a folder in memory, grouped by shape. The order is that of the file names, so runs can resume."""

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        self.names = list(names) if names else sorted(path.name for path in folder.glob("*.safetensors"))
        if not self.names:
            raise ValueError(f"{folder} holds no cached clips: build the cache first")
        self.buckets: dict[str, list[tuple[Tensor, list[Tensor]]]] = {}
        self.captions: dict[str, list[list[str]]] = {}
        self.classes: dict[str, list[str]] = {}
        for name in self.names:
            try:
                tensors, header = read_tensors(folder / name)
            except ValueError as error:
                raise ValueError(f"the cached clips are damaged ({error}): build the cache again") from error
            described = parsed_json(header["clips"], name, dict)
            texts = iter(tensors["text"].split([n for row in described["lengths"] for n in row]))
            bucket = self.buckets.setdefault(described["size"], [])
            bucket += [
                (z, [next(texts) for _ in row]) for z, row in zip(tensors["latents"], described["lengths"], strict=True)
            ]
            self.captions.setdefault(described["size"], []).extend(described["captions"])
            unnamed = [""] * len(described["captions"])  # shards from before classes were kept
            self.classes.setdefault(described["size"], []).extend(described.get("classes", unnamed))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that clips belong to, in alphabetical order."""
        return tuple(sorted({name for names in self.classes.values() for name in names} - {""}))

    def draw(self, size: str, count: int, rng: torch.Generator) -> list[Example]:
        """`count` random clips of one bucket, all with their first, second or last caption, which have like lengths.

        A clip with fewer captions than others has its own in turn.
        """
        bucket = self.buckets[size]
        which = int(torch.randint(max(len(texts) for _, texts in bucket), (1,), generator=rng))
        chosen = torch.randint(len(bucket), (count,), generator=rng).tolist()
        names = self.classes[size]
        return [Example(bucket[i][0], bucket[i][1][which % len(bucket[i][1])], names[i]) for i in chosen]


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
