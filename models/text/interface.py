"""What a language model is to the rest of the package: a callable that answers, and can be cancelled while it works."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
Example = tuple[str, str]
PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


class LanguageModelError(RuntimeError):
    """A language model gave no answer; one sentence, without secrets."""


class LanguageModel(Protocol):
    """Anything that answers: an instruction, then what the user says, perhaps with pictures (PNG or JPEG files).

    A model may have an attribute `small` that is True: then `captions.expand` does not ask it to rewrite a prompt, but
    only to name what the prompt leaves open. `examples` (what was said, what was answered) and `max_tokens` are only
    given to such a model.
    """

    def __call__(
        self,
        instruction: str,
        message: str,
        *,
        seed: int = 0,
        images: Sequence[bytes] = (),
        examples: Sequence[Example] = (),
        max_tokens: int = 0,
    ) -> str:
        """The answer as text. ValueError, RuntimeError or OSError with one sentence when there is none."""


@dataclass(frozen=True)
class Missing:
    """A language model that is not there: whoever asks it gets the reason, so that a caption falls back and says so."""

    reason: str

    def describe(self) -> str:
        """Why it is not there."""
        return self.reason

    def __call__(self, *_: object, **__: object) -> str:
        """Never answers: LanguageModelError."""
        raise LanguageModelError(self.reason)


@dataclass(frozen=True)
class Question:
    """One exchange as a chat: instruction, examples as earlier turns, the message, and how long an answer may be."""

    instruction: str
    message: str
    seed: int
    max_tokens: int
    temperature: float
    images: tuple[bytes, ...] = ()
    examples: tuple[Example, ...] = ()

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
