"""GGUF files by llama.cpp: the package xllamacpp, inside this process. No tensors of torch are involved."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from .gguf import projector_of, read_header
from .interface import LanguageModelError, Question, in_background

NAME = "llama.cpp"
PACKAGE = "xllamacpp"
SLOTS = 2  # conversations whose beginning is kept: two questions that take turns need not be read anew each time
CONTEXT = 4096  # tokens: the longest instruction, prompt and answer of this package fit in half of it
SEEING_CONTEXT = 16_384  # the same with pictures: eight of LLaVA are 4 600 tokens, eight of Qwen-VL 2 700


class LlamaEngine:
    """A loaded GGUF file, with the projector for pictures that lies beside it. It is freed when nobody holds it."""

    def __init__(self, path: Path) -> None:
        """Load. LanguageModelError when the file is no chat model that llama.cpp can read."""
        header = read_header(path)
        llama: Any = import_module(PACKAGE)  # by name: the pack itself does not need it
        params = llama.CommonParams()
        params.model.path = str(path)
        projector = projector_of(path)
        self.sees = projector is not None
        if projector is not None:
            params.mmproj.path = str(projector)
        params.n_parallel = 1 if self.sees else SLOTS
        params.n_ctx = params.n_parallel * min(SEEING_CONTEXT if self.sees else CONTEXT, header.context or CONTEXT)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = -1
        # it always opens a port on this machine as well; without this key, which nobody knows, that is of no use
        params.api_keys = [secrets.token_hex(32)]
        params.ui = params.endpoint_slots = params.endpoint_props = False
        try:
            self._server = llama.Server(params)
            # it hangs when it is freed before its loop has started; after an answer of one token, that has
            self._server.handle_completions({"prompt": "a", "max_tokens": 1})
        except Exception as error:
            raise LanguageModelError(
                f"llama.cpp cannot load {path.name} (architecture {header.architecture or 'unknown'}): "
                "it may be newer than the installed xllamacpp, or too large for the memory"
            ) from error
        self._lock = threading.Lock()

    def answer(self, question: Question, on_text: Callable[[str], None]) -> str:
        """The whole answer. on_text gets what there is so far, about ten times a second; if it raises, this ends."""
        stopped = threading.Event()
        parts: list[str] = []
        problems: list[str] = []

        def take(piece: dict[str, Any]) -> bool:
            if "error" in piece:
                problems.append(str(piece["error"].get("message", "")))
            parts.extend(choice.get("delta", {}).get("content") or "" for choice in piece.get("choices", ()))
            return stopped.is_set()

        def work() -> None:
            with self._lock:  # a cancelled answer ends within one token, or one block of the prompt
                if not stopped.is_set():
                    self._server.handle_chat_completions(self._request(question), take)

        try:
            in_background(work, lambda: on_text("".join(parts)))
        finally:
            stopped.set()
        if problems:
            raise LanguageModelError(f"llama.cpp could not answer ({' '.join(problems[0].split())[:200]})")
        return "".join(parts)

    @staticmethod
    def _request(question: Question) -> dict[str, Any]:
        return {
            "messages": question.messages(),
            "temperature": question.temperature,
            "top_p": 0.9,
            "min_p": 0.05,
            "repeat_penalty": 1.0,  # a penalty would fall on the very words that the user wants to see again
            "seed": question.seed % 2**31,
            "max_tokens": question.max_tokens,
            "stream": True,
        }
