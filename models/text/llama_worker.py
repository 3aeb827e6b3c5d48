"""llama.cpp in a process of its own: a damaged file may crash or hang this one, and nothing else.

Run as a script by `engine_llama`; it needs the standard library and xllamacpp only. JSON lines come in: first the
settings ({"path", "parent", "memory", "seconds", "params"}), then questions ({"ask", "seconds"}) and {"stop"}. JSON
lines go out: {"ready"}, then for each question {"text"} pieces and {"done"} or {"error"}. It ends with its input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, TextIO, TypeVar

Result = TypeVar("Result")
stopped = threading.Event()
questions: queue.Queue[dict[str, Any]] = queue.Queue()


def main() -> None:
    """Load, then answer until the input ends."""
    # whatever llama.cpp prints must not get among the lines
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    told = json.loads(sys.stdin.readline())
    sys.path[:] = told["path"]
    limit_memory(told["memory"])
    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=leave_with, args=(told["parent"],), daemon=True).start()
    server = guarded(told["seconds"], lambda: load(told["params"]), out)
    if server is None:
        os._exit(1)
    say(out, {"ready": str(server.listening_address)})
    while True:
        question = questions.get()
        stopped.clear()
        done = guarded(question["seconds"], partial(answer, server, question["ask"], out), out)
        if done is not None:
            say(out, {"done": True})


def load(settings: dict[str, Any]) -> Any:  # noqa: ANN401 - a class of xllamacpp, which brings no types
    """A server of llama.cpp that has answered once: it hangs when it ends before its loop has started."""
    llama: Any = import_module("xllamacpp")
    params = llama.CommonParams()
    for name, value in settings.items():
        *path, last = name.split(".")
        holder = params
        for part in path:
            holder = getattr(holder, part)
        setattr(holder, last, value)
    server = llama.Server(params)
    server.handle_completions({"prompt": "a", "max_tokens": 1, "cache_prompt": False})
    return server


def answer(server: Any, request: dict[str, Any], out: TextIO) -> bool:  # noqa: ANN401
    """Say the pieces of an answer as they come."""
    problems: list[str] = []

    def take(piece: dict[str, Any]) -> bool:
        if "error" in piece:
            problems.append(str(piece["error"].get("message", "")))
        for choice in piece.get("choices", ()):
            delta = choice.get("delta", {})
            if delta.get("content"):
                say(out, {"text": delta["content"]})
            elif delta.get("reasoning_content"):
                say(out, {"thought": True})
        return stopped.is_set()

    server.handle_chat_completions(request, take)
    if problems:
        raise RuntimeError(problems[0])
    return True


def guarded(seconds: float, work: Callable[[], Result], out: TextIO) -> Result | None:
    """The result of work; None when it failed, which is said. After `seconds` this process ends, whatever it does."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        return work()
    except Exception as error:
        say(out, {"error": str(error)[:2000], "kind": type(error).__name__})
        return None
    finally:
        faulthandler.cancel_dump_traceback_later()


def say(out: TextIO, message: dict[str, Any]) -> None:
    """One line to the process that asked; without it there is nobody to work for."""
    try:
        out.write(json.dumps(message) + "\n")
        out.flush()
    except OSError:
        os._exit(0)


def listen() -> None:
    """Take the lines of the input; leave when it ends."""
    for line in sys.stdin:
        message = json.loads(line)
        if "stop" in message:
            stopped.set()
        else:
            questions.put(message)
    os._exit(0)


def leave_with(parent: int) -> None:
    """Leave when the process that started this one is gone; where the system does not tell, the input's end does."""
    while os.name != "posix" or os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def limit_memory(most: int) -> None:
    """Let this process have at most so many bytes of its own (on Linux), and write no memory image when it crashes."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if most and sys.platform.startswith("linux"):
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
