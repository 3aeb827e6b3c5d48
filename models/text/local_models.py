"""A language model on this machine: a folder of safetensors or a GGUF file.

Which library runs it is one choice, made once. GGUF: llama.cpp where the package xllamacpp is installed, else
transformers, which unpacks the weights. Measured on the packaged model with one CPU core: 80 tokens a second and 0.5 s
to load by llama.cpp, 6 to 7 tokens a second and 45 s to load by transformers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

import torch

from ..extras import install
from . import engine_llama, engine_transformers
from .engine_transformers import is_model_folder
from .gguf import parts_of, read_header
from .interface import LanguageModelError, Question, nothing

SMALL = 1_000_000_000  # parameters below which a model cannot be trusted to rewrite a prompt
Mark = tuple[tuple[str, int, int], ...]
EVERY = 0.5  # seconds between two partial answers shown


class Engine(Protocol):
    """Loaded weights that answer. sees: whether they take pictures."""

    sees: bool

    def answer(self, question: Question, on_text: Callable[[str], None]) -> str:
        """The answer; on_text is called while it grows and may raise to end it."""


def find_model_folders(roots: Sequence[Path], depth: int = 2) -> dict[str, Path]:
    """Name (path below its root, with /) -> folder, for every model folder in these roots."""
    found: dict[str, Path] = {}
    for root in roots:
        for level in range(1, depth + 1):
            for config in sorted(root.glob("*/" * level + "config.json")):
                if is_model_folder(config.parent):
                    found.setdefault(config.parent.relative_to(root).as_posix(), config.parent)
    return found


def engine_name(path: Path) -> str:
    """Which library runs this file or folder. LanguageModelError with the remedy when none that could is installed."""
    if path.is_dir():
        return engine_transformers.NAME
    if find_spec(engine_llama.PACKAGE) is not None:
        return engine_llama.NAME
    if all(find_spec(name) is not None for name in ("transformers", *engine_transformers.GGUF_NEEDS)):
        return engine_transformers.NAME
    raise LanguageModelError(
        f"{path.name} needs llama.cpp: {install(engine_llama.PACKAGE)} (or, ten times slower, "
        f"{install(*engine_transformers.GGUF_NEEDS)} for transformers)"
    )


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """Loaded at the first question, and kept as long as this object is; two of one path share their weights.

    on_wait is called between tokens and may raise to stop; on_text gets the answer so far, twice a second.
    """

    path: Path
    device: str = "cpu"
    max_tokens: int = 400
    temperature: float = 0.3
    place: Callable[[torch.nn.Module], None] | None = field(default=None, repr=False, compare=False)
    on_wait: Callable[[], None] = field(default=nothing, repr=False, compare=False)
    on_text: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    _held: dict[Mark, Engine] = field(default_factory=dict, repr=False, compare=False)

    def describe(self) -> str:
        """Which model this is, and what runs it."""
        kind = "folder" if self.path.is_dir() else "GGUF"
        return f"local model {self.path.stem if kind == 'GGUF' else self.path.name} ({kind}, {engine_name(self.path)})"

    @property
    def small(self) -> bool:
        """Whether it has too few parameters to rewrite a prompt (see `interface.LanguageModel`)."""
        return _parameters(self.path, mark_of(self.path)) < SMALL

    def __call__(self, question: Question, /) -> str:
        """Ask once. LanguageModelError when it cannot be loaded, cannot see, or nothing comes back."""
        engine = self.load()
        if question.images and not engine.sees:
            raise LanguageModelError(f"{self.describe()} cannot see pictures: use a model or an endpoint that can")
        asked = question.within(self.max_tokens, self.temperature)
        text = engine.answer(asked, self._listener()).strip()
        if not text:
            raise LanguageModelError(f"{self.describe()} gave an empty answer")
        return text

    def load(self) -> Engine:
        """The weights, read now if nobody has yet, and anew when other files have taken their place."""
        mark = mark_of(self.path)
        if mark not in self._held:
            self.on_wait()
            self._held.clear()
            self._held[mark] = _shared(self, mark)
        return self._held[mark]

    def _listener(self) -> Callable[[str], None]:
        shown = time.monotonic()

        def listen(text: str) -> None:
            nonlocal shown
            self.on_wait()
            if self.on_text is not None and time.monotonic() - shown >= EVERY:
                shown = time.monotonic()
                self.on_text(text)

        return listen


def mark_of(path: Path) -> Mark:
    """Changes when a model's files do: names, times and sizes, of a GGUF file also those of projectors beside it."""
    files = sorted(path.iterdir()) if path.is_dir() else [*parts_of(path), *sorted(path.parent.glob("*mmproj*.gguf"))]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((file.name, stat.st_mtime_ns, stat.st_size) for file, stat in found)


_engines: WeakValueDictionary[tuple[Path, str, Mark], Engine] = WeakValueDictionary()
_lock = threading.Lock()


def _shared(model: LocalModel, mark: Mark) -> Engine:
    with _lock:
        key = (model.path.resolve(), model.device, mark)
        engine = _engines.get(key)
        if engine is None:
            if engine_name(model.path) == engine_llama.NAME:
                engine = engine_llama.LlamaEngine(model.path, model.on_wait)
            else:
                engine = engine_transformers.TransformersEngine(model.path, model.device, model.place)
            _engines[key] = engine
        return engine


@lru_cache(maxsize=64)
def _parameters(path: Path, _mark: Mark) -> int:
    """How many, from the files' headers; a damaged file counts as none, and says so when it is loaded."""
    try:
        return engine_transformers.count_parameters(path) if path.is_dir() else read_header(path).parameters
    except (OSError, ValueError):
        return 0
