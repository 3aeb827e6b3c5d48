"""Files of cached clips: latents and text features of up to SHARD clips of one size, with what they were made from.

Each has `latents` (n, C, T, H, W) bf16, `text` (all caption tokens in a row, E) bf16, where it was asked for `known`
(n, T, h, w, F) fp16, features of the patches to align a DiT with, and a JSON header "clips": the
captions, the lengths of their features, the classes, the size, and in `made_from` the VAE, the clips and, for rendered
ones, the series that they belong to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import opened, parsed_json, read_tensors, write_tensors

SHARD = 100  # clips per file
NAMED = re.compile(r"(?:toy|clips)-[^-]+-([0-9a-f]{8})-.*")  # before there was `made_from`, the name told the VAE
ANEW = "build the cache again"


@dataclass(frozen=True)
class Shard:
    """What the header of a file says, checked against the shapes of its tensors."""

    name: str
    size: str
    captions: list[list[str]]
    lengths: list[list[int]]  # tokens of each caption
    classes: list[str]
    made_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vae(self) -> str:
        """The mark of the VAE that made the latents; empty where nothing tells."""
        found = NAMED.fullmatch(self.name)
        return str(self.made_from.get("vae") or (found[1] if found else ""))

    @property
    def clips(self) -> str:
        """What stands for the clips, without their captions; of old files their name, which holds the captions too."""
        return str(self.made_from.get("clips") or f"{self.name} {len(self.captions)}")


def mark_of(parts: Iterable[object]) -> str:
    """Eight letters that change with any of these texts and numbers."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:8]


def write_shard(
    path: Path,
    latents: Sequence[Tensor],
    texts: Sequence[list[str]],
    classes: Sequence[str],
    features: Sequence[Tensor],
    described: Mapping[str, Any],
    known: Sequence[Tensor] = (),
) -> None:
    """Write clips (C, T, H, W) with their texts, and the features (L, E) of all texts in a row.

    described: further entries of the header: size, cyclic, fps, made_from. known: what is known of the patches of each
    clip, (T, h, w, F), to align a DiT with.
    """
    counts = iter(features)
    lengths = [[len(next(counts)) for _ in lines] for lines in texts]
    header = {"captions": list(texts), "lengths": lengths, "classes": list(classes), **described}
    tensors = {"latents": torch.stack(list(latents)).bfloat16(), "text": torch.cat(list(features))}
    if known:
        tensors["known"] = torch.stack(list(known)).half()
    write_tensors(path, tensors, {"clips": json.dumps(header)})


def read_shard(path: Path) -> tuple[Shard, Tensor, Tensor, Tensor | None]:
    """A file's description, latents, text, and what is known of the patches.

    ValueError, in one sentence, for one that is damaged or foreign.
    """
    try:
        tensors, header = read_tensors(path)
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        shard = _checked(path.name, header, shapes)
        latents, text, known = tensors["latents"], tensors["text"], tensors.get("known")
        if not all(part is None or part.isfinite().all() for part in (latents, text, known)):
            raise ValueError(f"{path.name} holds values that are no numbers")
    except (ValueError, RuntimeError) as error:  # RuntimeError: a type of numbers that torch cannot compare
        raise ValueError(f"the cached clips are damaged ({error}): {ANEW}") from error
    return shard, latents, text, known


def peek(path: Path) -> Shard:
    """The description alone. ValueError for a file that is damaged or foreign."""
    with opened(path) as file:
        names = file.keys()
        shapes = {name: list(file.get_slice(name).get_shape()) for name in names}
        return _checked(path.name, dict(file.metadata() or {}), shapes)


def remove_damaged(shard: Path) -> list[str]:
    """Remove a file that is not whole, so that it is made anew; says so."""
    if not shard.exists():
        return []
    try:
        peek(shard)
    except ValueError:
        shard.unlink()
        return [f"{shard.name} was damaged and is made anew"]
    return []


def remove_shards(paths: Iterable[Path], why: str) -> list[str]:
    """Remove files that do not belong to what a cache is to hold; says so, in one line."""
    gone = sorted(paths)
    for path in gone:
        path.unlink()
    names = ", ".join(path.name for path in gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
    return [f"removed {names}: {why}"] if gone else []


def _checked(name: str, header: Mapping[str, str], shapes: Mapping[str, list[int]]) -> Shard:
    """ValueError for a header that is not one, or that the tensors do not fit."""
    held = parsed_json(header.get("clips", "null"), f"the header of {name}", dict, advice=ANEW)
    captions, lengths, size = held.get("captions"), held.get("lengths"), held.get("size")
    classes = held.get("classes", [""] * (len(captions) if isinstance(captions, list) else 0))
    made_from = held.get("made_from", {})
    if not (
        isinstance(size, str)
        and isinstance(made_from, dict)
        and _rows(captions, str)
        and _rows(lengths, int)
        and isinstance(classes, list)
        and all(isinstance(one, str) for one in classes)
    ):
        raise ValueError(f"the header of {name} does not describe clips")
    tokens = [count for row in lengths for count in row]
    fits = [len(row) for row in captions] == [len(row) for row in lengths] and len(classes) == len(captions)
    latents, text = shapes.get("latents", []), shapes.get("text", [])
    shaped = len(latents) == 5 and latents[:1] == [len(captions)] and min(latents) > 0
    known = shapes.get("known", latents[:2])
    shaped = shaped and known[:1] == latents[:1] and ("known" not in shapes or len(known) == 5)
    if not (fits and shaped and all(count > 0 for count in tokens) and len(text) == 2 and text[0] == sum(tokens)):
        raise ValueError(f"the tensors of {name} do not fit its header")
    return Shard(name, size, captions, lengths, classes, made_from)


def _rows(value: object, kind: type) -> bool:
    """Whether a value is a list of lists, none of them empty, of one type."""
    return isinstance(value, list) and all(
        isinstance(row, list) and row and all(type(entry) is kind for entry in row) for row in value
    )
