"""GGUF files by llama.cpp (package xllamacpp), each in a process of its own: see `llama_worker`.

A damaged file can make llama.cpp crash, hang or take all memory. There that costs one sentence. The process is kept
warm between questions, and ends with this one, when nobody holds the model, or when it does not stop where it should.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..remedies import cut
from .gguf import parts_of, projector_of, read_header
from .interface import LanguageModelError, Question, nothing

NAME = "llama.cpp"
PACKAGE = "xllamacpp"
WORKER = Path(__file__).with_name("llama_worker.py")
CONTEXT = 4096  # tokens: the longest instruction, prompt and answer of this package fit in half of it
SEEING_CONTEXT = 16_384  # the same with pictures: eight of LLaVA are 4 600 tokens, eight of Qwen-VL 2 700
_GRACE = 1.0  # seconds in which an answer must stop when it is asked to
_WAIT = 0.1  # seconds between two looks at whether the user has pressed Cancel


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the process may take. load: seconds, and a second more for each `slowest` bytes of the files;
    silent: seconds without a word; answer: seconds in all; memory: bytes beyond twice the files."""

    load: float = 30.0
    slowest: int = 20_000_000
    silent: float = 600.0
    answer: float = 3600.0
    memory: int = 4 * 2**30


class LlamaEngine:
    """A loaded GGUF file, with the projector for pictures that lies beside it. It is freed when nobody holds it."""

    def __init__(self, path: Path, on_wait: Callable[[], None] = nothing, limits: Limits | None = None) -> None:
        """Load; on_wait is called meanwhile and may raise. LanguageModelError when llama.cpp cannot read the file."""
        self.path = path
        self._limits = limits or Limits()
        header = read_header(path)
        projector = projector_of(path)
        self.sees = projector is not None
        self._kind = cut(header.architecture or "unknown", 30)
        files = [*parts_of(path), *([projector] if projector else [])]
        self._bytes = sum(file.stat().st_size for file in files)
        threads = torch.get_num_threads()
        self._params: dict[str, Any] = {
            "model.path": str(path),
            **({"mmproj.path": str(projector)} if projector else {}),
            # one conversation, nothing kept of the last one: the same question and seed give the same words
            "n_parallel": 1,
            "cache_prompt": False,
            "cache_ram_mib": 0,
            "n_ctx": min(SEEING_CONTEXT if self.sees else CONTEXT, header.context or CONTEXT),
            "cpuparams.n_threads": threads,
            "cpuparams_batch.n_threads": threads,
            "verbosity": -1,
            # it always opens a port on this machine as well; without this key, which nobody knows, that is of no use
            "api_keys": [secrets.token_hex(32)],
            "ui": False,
            "endpoint_slots": False,
            "endpoint_props": False,
        }
        self._lock = threading.Lock()
        self._worker = self._start(on_wait)

    @property
    def address(self) -> str:
        """Where llama.cpp listens on this machine."""
        return self._worker.address

    def answer(self, question: Question, on_text: Callable[[str], None]) -> str:
        """The whole answer. on_text gets what there is so far, about ten times a second; if it raises, this ends."""
        with self._lock:
            if not self._worker.alive():
                self._worker = self._start(lambda: on_text(""))
            worker = self._worker
            worker.tell({"ask": self._request(question), "seconds": self._limits.answer})
            try:
                return self._collect(worker, question, on_text)
            except BaseException:
                worker.stop()
                raise

    def _collect(self, worker: _Worker, question: Question, on_text: Callable[[str], None]) -> str:
        parts: list[str] = []
        thought = False
        deadline = time.monotonic() + self._limits.silent
        while True:
            on_text("".join(parts))
            message = worker.next()
            if message is None:
                if time.monotonic() > deadline:
                    worker.kill()
                    raise LanguageModelError(
                        f"llama.cpp said nothing for {self._limits.silent:g} s with {self.path.name}: choose a smaller "
                        "model"
                    )
                continue
            deadline = time.monotonic() + self._limits.silent
            if "text" in message:
                parts.append(message["text"])
            elif "done" in message:
                break
            elif "error" in message:
                raise LanguageModelError(f"llama.cpp could not answer ({cut(message['error'], 200)})")
            elif "end" in message:
                raise LanguageModelError(
                    f"llama.cpp stopped ({message['end']}) while it answered with {self.path.name}: the file may be "
                    "damaged, or too large for the memory"
                )
            thought = thought or "thought" in message
        if thought and not "".join(parts).strip():
            raise LanguageModelError(
                f"{self.path.name} used up its {question.max_tokens} tokens for thinking: choose a model that answers "
                "at once"
            )
        return "".join(parts)

    def _start(self, on_wait: Callable[[], None]) -> _Worker:
        """A process with the weights loaded."""
        seconds = self._limits.load + self._bytes / self._limits.slowest
        worker = _Worker(
            {
                "path": sys.path,
                "parent": os.getpid(),
                "seconds": seconds + 60,
                "params": self._params,
                "memory": 2 * self._bytes + self._limits.memory,
            }
        )
        weakref.finalize(self, worker.kill)
        deadline = time.monotonic() + seconds
        message = None
        try:
            while message is None and time.monotonic() < deadline:
                on_wait()
                message = worker.next()
        except BaseException:
            worker.kill()
            raise
        if message is not None and "ready" in message:
            worker.address = message["ready"]
            return worker
        worker.kill()
        what = f"llama.cpp cannot load {self.path.name} (architecture {self._kind}"
        if message is None:
            raise LanguageModelError(
                f"{what}): it was not done within {seconds:.0f} s; the file is damaged, or too large for this machine"
            )
        if "end" in message:
            raise LanguageModelError(f"{what}; it stopped: {message['end']}): the file is damaged, get it again")
        raise LanguageModelError(f"{what}): it may be newer than the installed xllamacpp, or too large for the memory")

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
            "cache_prompt": False,
            "chat_template_kwargs": {"enable_thinking": False},  # a caption needs none, and the tokens are few
            "stream": True,
        }


class _Worker:
    """The process, and the lines that come from it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.address = ""
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        self.tell(settings)

    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def tell(self, message: dict[str, Any]) -> None:
        """Send a line; one that nobody takes is noticed by `next`."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def next(self) -> dict[str, Any] | None:
        """The next message, waiting a moment for it; {"end": how} when the process has ended."""
        try:
            line = self._lines.get(timeout=_WAIT)
        except queue.Empty:
            return None
        if line:
            with suppress(ValueError):
                found: dict[str, Any] = json.loads(line)
                return found
        self.kill()
        return {"end": _how(self._process.returncode)}

    def stop(self) -> None:
        """End the answer under way; the process too, where it does not end in a second."""
        self.tell({"stop": True})
        deadline = time.monotonic() + _GRACE
        while self.alive() and time.monotonic() < deadline:
            message = self.next()
            if message is not None and not message.keys().isdisjoint({"done", "error", "end"}):
                return
        self.kill()

    def kill(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    assert process.stdout is not None
    with suppress(OSError, ValueError):
        for line in process.stdout:
            lines.put(line)
    lines.put(b"")


def _how(code: int | None) -> str:
    """How a process has ended, in words."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
