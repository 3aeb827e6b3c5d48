"""What a language model is to the rest of the package: a callable that answers, and can be cancelled while it works."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Example = tuple[str, str]
PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


class LanguageModelError(RuntimeError):
    """A language model gave no answer; one sentence, without secrets."""


@dataclass(frozen=True)
class Question:
    """One exchange as a chat: an instruction, examples as earlier turns, the message, pictures (PNG or JPEG files).

    max_tokens: the longest answer, 0 for as long as the model is set to; it never gives more than it is set to.
    temperature: None for the model's own.
    """

    instruction: str
    message: str
    seed: int = 0
    max_tokens: int = 0
    temperature: float | None = None
    images: tuple[bytes, ...] = ()
    examples: tuple[Example, ...] = ()

    def within(self, max_tokens: int, temperature: float) -> Question:
        """The question with what it leaves to the model's own settings filled in."""
        most = min(self.max_tokens or max_tokens, max_tokens)
        return replace(self, max_tokens=most, temperature=temperature if self.temperature is None else self.temperature)

    def turns(self) -> list[tuple[str, str]]:
        """(role, text) in order; the last is the user's message."""
        shown = [turn for said, answered in self.examples for turn in (("user", said), ("assistant", answered))]
        return [("system", self.instruction), *shown, ("user", self.message)]

    def messages(self) -> list[dict[str, Any]]:
        """The turns as the OpenAI protocol has them, the pictures in order behind the message."""
        messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in self.turns()]
        if self.images:
            messages[-1]["content"] = [{"type": "text", "text": self.message}, *map(_picture, self.images)]
        return messages


class LanguageModel(Protocol):
    """Anything that answers a question.

    A model may have an attribute `small` that is True: then `captions.expand` does not ask it to rewrite a prompt, but
    only to name what the prompt leaves open. `examples` and `max_tokens` are only set for such a model.
    """

    def __call__(self, question: Question, /) -> str:
        """The answer as text. ValueError, RuntimeError or OSError with one sentence when there is none."""


@dataclass(frozen=True)
class Missing:
    """A language model that is not there: whoever asks it gets the reason, so that a caption falls back and says so."""

    reason: str

    def describe(self) -> str:
        """Why it is not there."""
        return self.reason

    def __call__(self, _question: Question, /) -> str:
        """Never answers: LanguageModelError."""
        raise LanguageModelError(self.reason)


def _picture(data: bytes) -> dict[str, Any]:
    kind = next((name for magic, name in PICTURES.items() if data.startswith(magic)), "")
    if not kind:
        raise ValueError("a picture for a language model must be a PNG, JPEG or WebP file")
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}}


def nothing() -> None:
    """The default of `on_wait`."""


def in_background(work: Callable[[], Result], on_wait: Callable[[], None]) -> Result:
    """Run work in a thread and call on_wait meanwhile: when that raises (Cancel in the editor), the wait ends."""
    result: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        on_wait()
    if failure:
        raise failure[0]
    return result[0]


def sleep(seconds: float, on_wait: Callable[[], None]) -> None:
    """Wait, and let on_wait end the wait."""
    end = time.monotonic() + seconds
    while (rest := end - time.monotonic()) > 0:
        time.sleep(min(0.1, rest))
        on_wait()
