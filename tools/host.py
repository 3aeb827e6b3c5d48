"""Start a ComfyUI, wait until it answers, and stop it again."""

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .client import Client
from .comfyui import HOST, Installation
from .terminal import Trouble, last_line

ADDRESS = "127.0.0.1"
TIED = Path(__file__).with_name("tied.py")
LOGS_KEPT = 20
USUAL_PORT = 8188
OUR_NODE = "SpacetimeLoadCheckpoint"


class Host:
    """A running ComfyUI. Use it as a context manager, so that it is stopped whatever happens."""

    def __init__(self, installation: Installation, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.installation = installation
        self.port = port
        self.process = process
        self.log = log
        self.client = Client(ADDRESS, port)

    @classmethod
    def start(
        cls, installation: Installation, port: int | None = None, *, extra: tuple[str, ...] = (), patience: float = 240
    ) -> "Host":
        """Start a ComfyUI on a port (a free one when none is given) and wait until it answers."""
        port = port or free_port()
        if not is_free(port):
            raise Trouble(f"Port {port} is taken: stop what uses it, or give another one with --port.")
        log = HOST / "logs" / f"host-{port}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        remove_old(log.parent)
        command = [str(installation.python), "-u", str(TIED), str(installation.tree / "main.py")]
        command += ["--listen", ADDRESS, "--port", str(port), "--disable-auto-launch", *installation.arguments, *extra]
        # a group of its own: Ctrl-C in the terminal reaches us alone, and we stop it and what it started
        grouped = {"creationflags": 0x200} if os.name == "nt" else {"start_new_session": True}
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=installation.tree,
                stdin=subprocess.PIPE,  # never written to: it closes when we end, however we end
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUTF8": "1", **installation.environment},
                **grouped,  # type: ignore[call-overload]
            )
        host = cls(installation, port, process, log)
        try:
            host.wait(patience)
        except BaseException:
            host.stop()
            raise
        return host

    def wait(self, patience: float) -> None:
        """Return when it answers; Trouble with its last lines when it dies or takes too long."""
        end = time.monotonic() + patience
        while not self.client.is_up():
            if self.process.poll() is not None:
                raise Trouble(f"ComfyUI stopped while starting (exit code {self.process.returncode}). {self.tail()}")
            if time.monotonic() > end:
                raise Trouble(f"ComfyUI did not answer within {patience:.0f} s. {self.tail()}")
            time.sleep(0.1)

    def check_pack(self) -> None:
        """Make sure that our nodes are there; a pack that fails to load only leaves a line in the log."""
        if OUR_NODE in self.client.object_info():
            return
        text = self.log.read_text(encoding="utf-8", errors="replace")
        hints = [line for line in text.splitlines() if re.search(r"spacetime", line) and "seconds" not in line]
        reason = hints[-1].strip() if hints else last_line(text)
        raise Trouble(f"ComfyUI runs, but it could not load this pack: {reason} (its log: {self.log})")

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log, for an error message."""
        text = self.log.read_text(encoding="utf-8", errors="replace").strip()
        last = "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])
        return f"Its last lines ({self.log}):\n{last}"

    @property
    def url(self) -> str:
        """The editor's address."""
        return f"http://{ADDRESS}:{self.port}"

    def stop(self) -> None:
        """End it and everything it started."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.stdin:
            self.process.stdin.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if os.name == "nt":
                self.process.terminate()
            else:
                os.killpg(self.process.pid, number)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def remove_old(logs: Path) -> None:
    """Keep the newest of the hosts' logs."""
    with suppress(OSError):  # another start may be doing the same
        newest_first = sorted(logs.glob("host-*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest_first[LOGS_KEPT - 1 :]:
            path.unlink()


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as probe:
        if os.name != "nt":
            # as servers do: a connection that has just been closed does not hold the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def editor_port(wished: int | None) -> int:
    """The port for an editor: the wished one, else ComfyUI's usual one, else a free one."""
    return wished or (USUAL_PORT if is_free(USUAL_PORT) else free_port())
