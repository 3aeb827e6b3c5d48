"""Talk to a running ComfyUI: queue a prompt, follow its progress, fetch what it made."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.files import parsed_json, read_json
from .terminal import Trouble
from .websocket import WebSocket
from .workflow import Prompt, is_older, needed_release, to_prompt

NOT_COMFYUI = "look whether ComfyUI is what answers there"
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Result:
    """What a run made: outputs by node id as the server lists them, and how long it took."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    seconds: float

    def files(self) -> Iterator[dict[str, str]]:
        """Every file that was saved or previewed, as {filename, subfolder, type}."""
        for output in self.outputs.values():
            for value in output.values():
                for one in value if isinstance(value, list) else ():
                    if isinstance(one, dict) and "filename" in one:
                        yield one

    def texts(self) -> list[str]:
        """What the nodes say: reports, and text that was previewed. Each text once."""
        said = [text for output in self.outputs.values() for text in output.get("text", ()) if isinstance(text, str)]
        return list(dict.fromkeys(said))


class Client:
    """A connection to the server at one address."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.client_id = uuid.uuid4().hex
        self._object_info: dict[str, Any] | None = None

    def get(self, path: str, timeout: float = 60) -> bytes:
        """The body of a GET request."""
        with urllib.request.urlopen(f"http://{self.host}:{self.port}{path}", timeout=timeout) as response:
            return bytes(response.read())

    def get_json(self, path: str) -> Any:
        """The body of a GET request, read as JSON."""
        return parsed_json(self.get(path), f"the answer of {self.host}:{self.port}", nan=True, advice=NOT_COMFYUI)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON; an answer in JSON is returned, also one that refuses."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text = response.read()
        except urllib.error.HTTPError as refusal:
            text = refusal.read()
        return parsed_json(text, "the answer", nan=True, advice=NOT_COMFYUI) if text.strip().startswith(b"{") else {}

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            self.get("/system_stats", timeout=5)
        except (OSError, urllib.error.URLError):
            return False
        return True

    def object_info(self) -> dict[str, Any]:
        """What the server says of its nodes (asked once)."""
        if self._object_info is None:
            self._object_info = self.get_json("/object_info")
        return self._object_info

    def prompt_of(self, workflow: Any) -> Prompt:
        """The API prompt of a workflow: a path, or the content of one, in either format."""
        content = load_workflow(workflow) if isinstance(workflow, str | Path) else workflow
        why = self.lacking(content)
        if why:
            raise Trouble(f"{why}: give a newer one with --comfyui PATH or --comfyui-version.")
        return to_prompt(content, self.object_info())

    def lacking(self, workflow: Any) -> str:
        """Why this ComfyUI cannot run a workflow (its content): it is too old; empty where nothing says so."""
        needed = needed_release(workflow)
        if not needed or not is_older(self.version(), needed):
            return ""
        return f"This workflow needs ComfyUI {needed} or newer, and this one is {self.version()}"

    def version(self) -> str:
        """The release of the ComfyUI, as X.Y.Z; empty where it does not say."""
        system = self.get_json("/system_stats").get("system", {})
        return str(system.get("comfyui_version") or "")

    def run(self, prompt: Prompt, progress: Progress | None = None, *, workflow: Any = None) -> Result:
        """Queue a prompt and wait for its end. Trouble with the node's own message when it fails."""
        socket = WebSocket.connect(self.host, self.port, f"/ws?clientId={self.client_id}")
        start = time.monotonic()
        try:
            prompt_id = self.queue(prompt, workflow)
            try:
                self._follow(socket, prompt_id, prompt, progress)
            except KeyboardInterrupt:
                self.interrupt()
                raise
        finally:
            socket.close()
        return Result(prompt_id, self._outputs(prompt_id), time.monotonic() - start)

    def queue(self, prompt: Prompt, workflow: Any = None) -> str:
        """Put a prompt into the server's queue and return its id."""
        extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
        answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id, "extra_data": extra})
        if "prompt_id" not in answer:
            raise Trouble(refusal_text(answer, prompt))
        return str(answer["prompt_id"])

    def _outputs(self, prompt_id: str) -> dict[str, dict[str, Any]]:
        """What a finished run made; the server announces the end a moment before it files the record."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            record = self.get_json(f"/history/{prompt_id}").get(prompt_id)
            if record is not None:
                return dict(record.get("outputs", {}))
            time.sleep(0.02)
        raise Trouble("ComfyUI ended the run but keeps no record of it.")

    def interrupt(self) -> None:
        """Stop what is running."""
        self.post("/interrupt", {})

    def _follow(self, socket: WebSocket, prompt_id: str, prompt: Prompt, progress: Progress | None) -> None:
        while True:
            try:
                message = socket.receive(timeout=5)
            except OSError:
                message = None
                time.sleep(0.5)
            if message is None:
                # a message may have been missed; the history has the last word
                if self._ended(prompt_id, prompt):
                    return
                continue
            event = parsed_json(message, "a message of the server", dict, nan=True, advice=NOT_COMFYUI)
            data = event.get("data") or {}
            if data.get("prompt_id") != prompt_id:
                continue
            if event["type"] in ("execution_error", "execution_interrupted"):
                raise Trouble(failure_text(event["type"], data, prompt))
            if event["type"] == "execution_success":
                return
            if event["type"] == "progress_state" and progress:
                show_running(data.get("nodes", {}), prompt, progress)

    def _ended(self, prompt_id: str, prompt: Prompt) -> bool:
        try:
            record = self.get_json(f"/history/{prompt_id}").get(prompt_id)
        except (OSError, urllib.error.URLError):
            raise Trouble("ComfyUI has stopped answering in the middle of the run.") from None
        if record is None:
            return False
        for kind, data in record.get("status", {}).get("messages", []):
            if kind in ("execution_error", "execution_interrupted"):
                raise Trouble(failure_text(kind, data, prompt))
        return bool(record.get("status", {}).get("completed"))

    def fetch(self, file: dict[str, str]) -> bytes:
        """The content of a file that a run made."""
        return self.get("/view?" + urllib.parse.urlencode(file))

    def upload(self, path: Path) -> str:
        """Put a file into the server's input folder; returns the name to use in a node."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}/upload/image",
            data=head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            return str(parsed_json(response.read(), "the answer", dict, advice=NOT_COMFYUI)["name"])


def load_workflow(path: str | Path) -> Any:
    """Read a workflow file; Trouble when it is missing or no JSON."""
    try:
        return read_json(Path(path), advice="save it anew in the editor")
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise Trouble(f"There is no file {path}.") from None
        raise Trouble(f"{error}.") from None


def node_name(key: str, prompt: Prompt) -> str:
    """A node as the user knows it: its title and id."""
    node = prompt.get(key, {})
    title = (node.get("_meta") or {}).get("title") or node.get("class_type") or "node"
    return f"{title} (node {key})"


def refusal_text(answer: dict[str, Any], prompt: Prompt) -> str:
    """Why the server did not take a prompt, node by node."""
    reasons = [
        f"{node_name(key, prompt)}: {error.get('message', 'refused')}: {error.get('details', '')}".rstrip(": ")
        for key, node in (answer.get("node_errors") or {}).items()
        for error in node.get("errors", [])
    ]
    if not reasons:
        error = answer.get("error") or {}
        reasons = [f"{error.get('message', 'no reason given')} {error.get('details', '')}".strip()]
    return "ComfyUI refused the workflow: " + "; ".join(reasons)


def failure_text(kind: str, data: dict[str, Any], prompt: Prompt) -> str:
    """Why a run ended early."""
    if kind == "execution_interrupted":
        return "The run was interrupted."
    message = str(data.get("exception_message", "")).strip()
    return f"{node_name(str(data.get('node_id')), prompt)} failed: {message or data.get('exception_type')}"


def show_running(nodes: dict[str, Any], prompt: Prompt, progress: Progress) -> None:
    """Report the node that is at work."""
    for key, state in nodes.items():
        if state.get("state") == "running":
            progress(node_name(key, prompt).rpartition(" (node")[0], state.get("value", 0), state.get("max", 1))
