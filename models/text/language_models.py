"""Language models behind an address: any server that speaks the OpenAI protocol.

Which endpoints exist, and their keys, is the user's own matter: a JSON file and environment variables. A workflow only
names one. An address that a workflow brings along is called only when the user has allowed it, and never gets a key.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from ..headers import Within, check_number
from ..remedies import cut
from .cleaning import without_control
from .exchange import Exchange
from .hiding import hide, plain_address
from .interface import LanguageModelError, Question, nothing, sleep
from .protocols import Answer, read_body

MAX_WAIT = 30.0  # seconds between two attempts; a server that asks for more is not asked again
# what numbers of the configuration may be, both ends allowed
LIMITS = {
    "timeout": Within(0.1, 3600),
    "attempts": Within(1, 20),
    "backoff": Within(0, 60),
    "max_tokens": Within(1, 1_000_000),
    "temperature": Within(0, 10),
}
TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One OpenAI-compatible server. options: more fields of the request; null takes a field out.
    small: too weak to rewrite a prompt (see `interface.LanguageModel`)."""

    name: str
    url: str
    model: str = ""
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    attempts: int = 3
    backoff: float = 0.5
    max_tokens: int = 700
    temperature: float = 0.3
    options: Mapping[str, Any] = field(default_factory=dict)
    small: bool = False
    on_wait: Callable[[], None] = field(default=nothing, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_address(self.url)
        if not re.fullmatch(r"[\x21-\x7e]*", self.key):
            raise ValueError(
                f"the key of endpoint '{cut(self.name, 60)}' has spaces or other odd characters in it: copy it again"
            )
        for field_name, limits in LIMITS.items():
            check_number(f"the {field_name} of endpoint '{cut(self.name, 60)}'", getattr(self, field_name), *limits)

    def __call__(self, question: Question, /) -> str:
        """Ask once, with retries. LanguageModelError when there is no answer."""
        body = self.request(question.within(self.max_tokens, self.temperature))
        problem = ""
        for attempt in range(self.attempts):
            begun = time.monotonic()
            pause = self.backoff * 2**attempt
            try:
                status, headers, content = self._post(body)
            except (OSError, HTTPException, ValueError) as error:
                problem = f"did not answer ({self.shown(_reason(error, self.timeout))})"
            else:
                if status == 200:
                    return self.read_answer(content)
                problem = self._refusal(status, content)
                if status not in TRY_AGAIN:
                    break
                wished = _wished(headers.get("retry-after"))
                if wished > min(MAX_WAIT, self.timeout - (time.monotonic() - begun)):
                    problem += f"; it asks to wait {wished:.0f} s"
                    break
                pause = max(pause, wished)
            if attempt + 1 < self.attempts:
                sleep(min(MAX_WAIT, self.timeout, pause), self.on_wait)
        raise LanguageModelError(f"{self.describe()} {problem}")

    def describe(self) -> str:
        """Name and address, nothing secret."""
        return f"endpoint '{cut(self.name, 60)}' at {plain_address(self.url)}"

    def shown(self, text: str) -> str:
        """What may be shown of a text from outside: nothing of the key, and not all of a long one."""
        return cut(hide(without_control(text[:50_000]), self.key), 200)

    def request(self, question: Question) -> bytes:
        """The body of a chat completion."""
        fields: dict[str, Any] = {
            "model": self.model or "default",
            "messages": question.messages(),
            "temperature": question.temperature,
            "seed": question.seed % 2**31,
            "max_tokens": question.max_tokens,
            "stream": False,
            **self.options,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "spacetime"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        return Exchange(request, self.timeout).run(self.on_wait)

    def read_answer(self, content: bytes) -> str:
        """The text of an answer in any format of `protocols`. LanguageModelError when it is something else."""
        found = read_body(content)
        text = found.text if found is not None else ""
        if found is not None and not text.strip() and not found.error and (found.thought or found.cut):
            raise LanguageModelError(
                f"{self.describe()} used up its max_tokens ({self.max_tokens}) for thinking: raise max_tokens in the "
                "configuration, or turn the model's thinking off"
            )
        if found is None or found.error or not text.strip():
            raise LanguageModelError(f"{self.describe()} {self.shown(_not_an_answer(content, found))}")
        if found.cut:
            text = re.sub(r"(?<=[.!?\u3002])[^.!?\u3002]*$", "", text) or text  # cut off: up to the last whole sentence
        return hide(text, self.key, words=True)

    def _refusal(self, status: int, content: bytes) -> str:
        detail = self.shown(_server_message(content))
        remedies = {
            401: "check its key in the configuration",
            403: "check its key and rights",
            404: "check the address (it usually ends in /v1) and the model's name "
            f"({cut(self.model, 60) or 'none given'})",
            429: "it has too much to do or your quota is used up",
        }
        remedy = remedies.get(
            status, "it redirects: put the final address into the configuration" if status < 400 else ""
        )
        return f"answered with HTTP {status}" + (f" ({detail})" if detail else "") + (f": {remedy}" if remedy else "")


def _wished(wished: str | None) -> float:
    """Seconds that a server asks to wait; 0 where it does not say so, or says a date."""
    try:
        return max(0.0, float(wished or 0))
    except ValueError:
        return 0.0


def _reason(error: BaseException, timeout: float) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return f"nothing within {timeout:g} s"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused: is the server running?"
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)


def _server_message(content: bytes) -> str:
    """The error text of a server's answer, on one line; nothing of a web page."""
    found = read_body(content)
    if found is None or not found.error:
        return "a web page" if b"<html" in content[:2000].lower() else ""
    return found.error


def _not_an_answer(content: bytes, found: Answer | None) -> str:
    start = content[:2000].lower()
    if b"<html" in start or b"<!doctype" in start:
        return "answered with a web page instead of text: check the address (it usually ends in /v1)"
    detail = found.error if found is not None else ""
    return f"gave an error ({detail})" if detail else "gave an answer without text in it"


def check_address(url: str) -> None:
    """ValueError when this is no http(s) address, or carries a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError(f"{plain_address(url)!r} is not an address: write http://host:port/v1 or https://host/v1")
    if "@" in url or parts.query or parts.fragment:
        raise ValueError(
            f"the address {plain_address(url)} must not carry a password or a query: put the key into 'key'"
        )
