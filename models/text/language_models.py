"""Language models behind an address: any server that speaks the OpenAI protocol.

Which endpoints exist, and their keys, is the user's own matter: a JSON file and environment variables. A workflow only
names one. An address that a workflow brings along is called only when the user has allowed it, and never gets a key.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from ..files import parsed_json
from .interface import LanguageModelError, Question, in_background, nothing, sleep

MAX_ANSWER = 2_000_000  # bytes
MAX_WAIT = 30.0  # seconds between two attempts, whatever the server asks for
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
                f"the key of endpoint {self.name!r} has spaces or other odd characters in it: copy it again"
            )
        if not 0 < self.timeout <= 3600:
            raise ValueError(f"the timeout of endpoint {self.name!r} is {self.timeout} s: choose 1 to 3600")

    def __call__(self, question: Question, /) -> str:
        """Ask once, with retries. LanguageModelError when there is no answer."""
        body = self.request(question.within(self.max_tokens, self.temperature))
        problem = ""
        for attempt in range(self.attempts):
            try:
                status, headers, content = in_background(lambda: self._post(body), self.on_wait)
            except (OSError, HTTPException) as error:
                problem, pause = f"did not answer ({_reason(error, self.timeout)})", None
            else:
                if status == 200:
                    return self.read_answer(content)
                problem, pause = self._refusal(status, content), headers.get("retry-after")
                if status not in TRY_AGAIN:
                    break
            if attempt + 1 < self.attempts:
                sleep(_pause(pause, self.backoff * 2**attempt), self.on_wait)
        raise LanguageModelError(self.hide(f"{self.describe()} {problem}"))

    def describe(self) -> str:
        """Name and address, nothing secret."""
        return f"endpoint {self.name!r} at {plain_address(self.url)}"

    def hide(self, text: str) -> str:
        """The text without the key, should a server have repeated it."""
        return text.replace(self.key, "[key]") if self.key else text

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
        deadline = time.monotonic() + self.timeout
        try:
            response = _opener(self.url).open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            chunks, size = [], 0
            # read1 returns what has come: a server that drips one byte at a time meets the deadline all the same
            while chunk := response.read1(65_536):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_ANSWER:
                    raise OSError(f"more than {MAX_ANSWER // 10**6} MB")
                if time.monotonic() > deadline:
                    raise TimeoutError
            return (
                int(response.status),
                {name.lower(): value for name, value in response.headers.items()},
                b"".join(chunks),
            )

    def read_answer(self, content: bytes) -> str:
        """The text of a chat completion. LanguageModelError when it is something else."""
        try:
            choice = parsed_json(content, "the answer", dict, nan=True)["choices"][0]
            message = choice["message"]
            text = message.get("content") or ""
            if isinstance(text, list):
                text = "".join(part.get("text", "") for part in text)
            if not isinstance(text, str) or not (text.strip() or message.get("refusal")):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise LanguageModelError(self.hide(f"{self.describe()} {_not_an_answer(content)}")) from None
        text = text or str(message["refusal"])
        if choice.get("finish_reason") == "length":
            text = re.sub(r"(?<=[.!?\u3002])[^.!?\u3002]*$", "", text) or text  # cut off: up to the last whole sentence
        return self.hide(text)

    def _refusal(self, status: int, content: bytes) -> str:
        detail = _server_message(content)
        remedies = {
            401: "check its key in the configuration",
            403: "check its key and rights",
            404: f"check the address (it usually ends in /v1) and the model's name ({self.model or 'none given'})",
            429: "it has too much to do or your quota is used up",
        }
        remedy = remedies.get(
            status, "it redirects: put the final address into the configuration" if status < 400 else ""
        )
        return f"answered with HTTP {status}" + (f" ({detail})" if detail else "") + (f": {remedy}" if remedy else "")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none."""


def _opener(url: str) -> urllib.request.OpenerDirector:
    # a proxy can not reach this machine's own servers
    local = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    return urllib.request.build_opener(_NoRedirect, *local)


def _pause(wished: str | None, usual: float) -> float:
    try:
        return min(MAX_WAIT, max(usual, float(wished or 0)))
    except ValueError:
        return min(MAX_WAIT, usual)


def _reason(error: BaseException, timeout: float) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return f"nothing within {timeout:g} s"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused: is the server running?"
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)[:200]


def _server_message(content: bytes) -> str:
    """The error text of a server's answer, on one line; nothing of a web page."""
    try:
        error = parsed_json(content, "the answer", dict, nan=True).get("error", "")
        text = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        return "a web page" if b"<html" in content[:2000].lower() else ""
    return " ".join(str(text).split())[:200]


def _not_an_answer(content: bytes) -> str:
    start = content[:2000].lower()
    if b"<html" in start or b"<!doctype" in start:
        return "answered with a web page instead of text: check the address (it usually ends in /v1)"
    detail = _server_message(content)
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
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            f"the address {plain_address(url)} must not carry a password or a query: put the key into 'key'"
        )


def plain_address(url: str) -> str:
    """An address without anything secret: no password, no query."""
    return re.sub(r"//[^/@]*@", "//", url.split("?", maxsplit=1)[0].split("#", maxsplit=1)[0])[:200]


def is_loopback(url: str) -> bool:
    """Whether an address means this machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or re.fullmatch(r"127(?:\.\d{1,3}){3}", host) is not None
