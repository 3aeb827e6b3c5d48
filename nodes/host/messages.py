"""What the host shows while a node runs: progress, lines of text, JSON for our widgets; and whether to stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import comfy.utils
import comfy_execution.utils
import torch
from PIL import Image
from torch import Tensor

SHOWN = 512  # pixels: the longer side of a frame that is shown while it is made
Stopped = comfy.model_management.InterruptProcessingException  # what check_interrupted raises
_logged: set[str] = set()


def check_interrupted() -> None:
    """Stop here when the user has pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def progress_bar(total: int) -> Any:
    """The running node's progress bar: `.update(n)`, `.update_absolute(value, total, preview)`."""
    return comfy.utils.ProgressBar(total)


def show_frame(bar: Any, image: Tensor, value: int, total: int) -> None:
    """Move a progress bar and show an image (H, W, 3) in 0..1 beside it, on the running node."""
    pixels = (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    bar.update_absolute(value, total, ("JPEG", Image.fromarray(pixels), SHOWN))


def show_text(node: Any, text: str) -> None:
    """Write a line on the running node (a class with the hidden unique_id). Nothing happens where no server runs."""
    hidden = getattr(node, "hidden", None)
    node_id = hidden.unique_id if hidden is not None else None
    instance = _server()
    if instance is not None and node_id is not None:
        instance.send_progress_text(text, node_id)


def say_while_running(text: str) -> None:
    """Write a line on whatever node is running, and once into the log. Nothing happens for an empty text."""
    if not text:
        return
    if text not in _logged:
        _logged.add(text)
        logging.getLogger(__name__).warning("Spacetime: %s", text)
    context, instance = comfy_execution.utils.get_executing_context(), _server()
    if instance is not None and context is not None:
        instance.send_progress_text(text, context.node_id)


def listening_node() -> str | None:
    """The id of the running node, where an editor is connected that could show something on it; else None."""
    context, instance = comfy_execution.utils.get_executing_context(), _server()
    if context is None or instance is None or instance.client_id not in instance.sockets:
        return None
    return str(context.node_id)


def show_json(event: str, data: Mapping[str, Any]) -> None:
    """Send JSON to our scripts in the editor that runs this workflow."""
    instance = _server()
    if instance is not None:
        instance.send_sync(event, dict(data), instance.client_id)


def _server() -> Any | None:
    """The host's server, where one runs."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def serve_json(path: str, answer: Callable[[Mapping[str, str]], Any], *, post: bool = False) -> None:
    """Let the editor GET `path`: answer(query) as JSON, or a ValueError's text with status 400.

    post: only POST it, for what changes something, which no mere link may do.
    """
    instance = _server()
    if instance is None:
        return
    from aiohttp import web

    async def handler(request: Any) -> Any:
        try:
            return web.json_response(answer(request.query))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    (instance.routes.post if post else instance.routes.get)(path)(handler)
