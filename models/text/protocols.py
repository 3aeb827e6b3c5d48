"""The text in a server's answer: OpenAI's chat completions, whole or as a stream of events, and Ollama's formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..files import parsed_json


@dataclass(frozen=True)
class Answer:
    """text: what was said. cut: whether it ended for its length. thought: whether there was thinking beside it.
    error: what the server says went wrong."""

    text: str = ""
    cut: bool = False
    thought: bool = False
    error: str = ""


def read_body(content: bytes) -> Answer | None:
    """The answer in a body; None where it is none of the known formats."""
    pieces = [piece for value in _values(content) if (piece := _piece(value)) is not None]
    if not pieces:
        return None
    return Answer(
        "".join(piece.text for piece in pieces),
        any(piece.cut for piece in pieces),
        any(piece.thought for piece in pieces),
        next((piece.error for piece in pieces if piece.error), ""),
    )


def _values(content: bytes) -> Iterator[Any]:
    """One JSON object, or one a line (Ollama), or one an event (OpenAI)."""
    text = content.decode("utf-8-sig", "replace")
    with suppress(ValueError):
        yield parsed_json(_whole(content), "the answer", nan=True)
        return
    for line in text.splitlines():
        data = line.strip().removeprefix("data:").strip()
        if data.startswith("{"):
            with suppress(ValueError):
                yield parsed_json(_whole(data.encode("utf-8", "replace")), "the answer", nan=True)


def _whole(content: bytes) -> bytes:
    """Without halves of characters that a server has escaped alone; pairs stay."""
    return re.sub(
        rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
        lambda found: found.group(1) or b"",
        content,
    )


def _piece(value: object) -> Answer | None:
    """What one object says: choices (message, delta or text), message (Ollama's chat), response (its generate)."""
    if not isinstance(value, dict):
        return None
    if value.get("error"):
        return Answer(error=message_of(value))
    choices = value.get("choices")
    if isinstance(choices, list):
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        said = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
        return _said(said, choice.get("finish_reason") == "length")
    cut = value.get("done_reason") == "length"
    if isinstance(value.get("message"), dict):
        return _said(value["message"], cut)
    if isinstance(value.get("response"), str):
        return _said({"content": value["response"], "thinking": value.get("thinking")}, cut)
    return None


def _said(message: object, cut: bool) -> Answer | None:
    if not isinstance(message, dict):
        return None
    text = message.get("content") or ""
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if not isinstance(text, str):
        return None
    thought = any(message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    refusal = message.get("refusal")
    return Answer(text or (refusal if isinstance(refusal, str) else ""), cut, thought)


def message_of(value: object) -> str:
    """The text of an error that a server reports in JSON; empty where there is none."""
    error = value.get("error", "") if isinstance(value, dict) else ""
    return str(error.get("message", "") if isinstance(error, dict) else error)
