"""A small websocket client (RFC 6455), enough to listen to ComfyUI's progress messages."""

import base64
import os
import socket
import struct
from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass
class WebSocket:
    """An open connection. `receive` returns text messages; binary ones (previews) are skipped."""

    connection: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(cls, host: str, port: int, path: str, timeout: float = 10) -> "WebSocket":
        """Shake hands; raises OSError when the other side is no websocket server."""
        connection = socket.create_connection((host, port), timeout=timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self = cls(connection)
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        if b" 101 " not in head.split(b"\r\n")[0]:
            connection.close()
            raise OSError(f"no websocket at {host}:{port}{path}: {head.splitlines()[0].decode(errors='replace')}")
        return self

    def receive(self, timeout: float) -> str | None:
        """The next text message, or None when nothing came in time. Raises OSError when the connection ends.

        What has arrived of a message stays in the buffer, so that a timeout in the middle of one loses nothing.
        """
        self.connection.settimeout(timeout)
        while True:
            try:
                message = self._next_message()
            except TimeoutError:
                return None
            if message is not None:
                return message

    def close(self) -> None:
        """Hang up."""
        self.connection.close()

    def _next_message(self) -> str | None:
        """Take one whole message off the buffer; None when it was not text."""
        payload, opcode, position = b"", None, 0
        while True:
            start = position
            final, kind, data, position = self._frame(start)
            if kind in (CLOSE, PING, PONG):
                # a control frame may stand between the parts of a message, so only its own bytes go
                del self.buffer[start:position]
                position = start
                if kind == CLOSE:
                    raise ConnectionResetError("the server closed the connection")
                if kind == PING:
                    self._send(PONG, data)
                continue
            opcode = kind if opcode is None else opcode
            payload += data
            if final:
                del self.buffer[:position]
                return payload.decode("utf-8", "replace") if opcode == TEXT else None

    def _frame(self, position: int) -> tuple[bool, int, bytes, int]:
        """The frame that begins at `position` of the buffer: final?, kind, data, position after it."""
        self._need(position + 2)
        first, second = self.buffer[position], self.buffer[position + 1]
        position += 2
        length = second & 0x7F
        extended = {126: "!H", 127: "!Q"}.get(length)
        if extended:
            size = struct.calcsize(extended)
            self._need(position + size)
            (length,) = struct.unpack_from(extended, self.buffer, position)
            position += size
        self._need(position + length)
        return bool(first & 0x80), first & 0x0F, bytes(self.buffer[position : position + length]), position + length

    def _need(self, size: int) -> None:
        while len(self.buffer) < size:
            self._fill()

    def _fill(self) -> None:
        data = self.connection.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self.buffer += data

    def _send(self, kind: int, data: bytes) -> None:
        """Send one short frame; a client must mask what it sends."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.connection.sendall(bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked)
