"""One HTTP exchange with a server that may do anything: one watchdog over all of it, and its body unpacked.

Name lookup, connecting, the head (dripped, with 100 Continue without end), the body and what trails it: when the time
is over, or the user presses Cancel, the connection is shut and the wait ends.
"""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from .interface import in_background

MAX_ANSWER = 2_000_000  # bytes, packed or not


@dataclass
class Exchange:
    """A request on its way. `run` gives status, headers (names in lower case) and body; OSError or HTTPException."""

    request: urllib.request.Request
    timeout: float
    most: int = MAX_ANSWER
    _sockets: list[socket.socket] = field(default_factory=list)

    def run(self, on_wait: Callable[[], None]) -> tuple[int, Mapping[str, str], bytes]:
        """Send and read, at most `timeout` seconds. TimeoutError after that."""
        deadline = time.monotonic() + self.timeout

        def watch() -> None:
            on_wait()
            if time.monotonic() > deadline:
                raise TimeoutError

        try:
            return in_background(self._read, watch)
        finally:
            for one in self._sockets:
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # what still reads from it ends

    def _read(self) -> tuple[int, Mapping[str, str], bytes]:
        try:
            response = self._opener().open(self.request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            parts, size = [], 0
            while part := response.read1(65_536):
                parts.append(part)
                size += len(part)
                if size > self.most:
                    raise OSError(f"more than {self.most // 10**6} MB")
            headers = {name.lower(): value for name, value in response.headers.items()}
            packed = headers.get("content-encoding", "").strip().lower()
            return int(response.status), headers, unpacked(b"".join(parts), packed, self.most)

    def _opener(self) -> urllib.request.OpenerDirector:
        # a proxy can not reach this machine's own servers
        local = [urllib.request.ProxyHandler({})] if is_loopback(self.request.full_url) else []
        return urllib.request.build_opener(_NoRedirect, _Plain(self._sockets), _Secure(self._sockets), *local)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none."""


class _Plain(urllib.request.HTTPHandler):
    """Remembers the sockets that it opens, so that they can be shut from outside."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._sockets = sockets

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Open with a connection that is remembered."""
        return self.do_open(_remembering(HTTPConnection, self._sockets), req)


class _Secure(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._sockets = sockets

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Open with a connection that is remembered."""
        return self.do_open(_remembering(HTTPSConnection, self._sockets), req)


def _remembering(kind: type[HTTPConnection], sockets: list[socket.socket]) -> Any:  # noqa: ANN401 - a class
    class Remembering(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    return Remembering


def unpacked(data: bytes, encoding: str, most: int = MAX_ANSWER) -> bytes:
    """A body as it was before a server packed it. OSError when it is packed in an unknown way, damaged or too large."""
    if encoding in {"", "identity"} and data[:2] != b"\x1f\x8b":
        return data
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise OSError(f"it packs its answers as {encoding[:20]!r}, which is not read here")
    last: Exception | None = None
    for bits in (47, -15):  # gzip and zlib by their heads; deflate without one
        unpacker = zlib.decompressobj(bits)
        try:
            found = unpacker.decompress(data, most + 1)
        except zlib.error as error:
            last = error
            continue
        if len(found) > most:
            raise OSError(f"more than {most // 10**6} MB")
        return found
    raise OSError("its packed answer is damaged") from last


def is_loopback(url: str) -> bool:
    """Whether an address means this machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or (host.startswith("127.") and host.replace(".", "").isdigit())
