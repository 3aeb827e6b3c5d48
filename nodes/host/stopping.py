"""Runs that can be ended early: what they have made by then is their result, as if they had been asked for no more.

A button on the running node asks for it (web/js/stop_here.js), or whoever queued the prompt and knows its id:

    POST /spacetime/stop?prompt_id=ID[&node_id=NODE]

Cancel is something else: it ends the whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event
from typing import Any

from comfy_execution.utils import get_executing_context

from ...models.remedies import cut
from . import messages

ROUTE = "/spacetime/stop"
EVENT = "spacetime.stoppable"
_running: dict[tuple[str, str], Event] = {}  # (prompt, node) -> whether it is asked to stop


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """While it is open the running node can be asked to end early.

    Gives what says whether it was; asked for the first time, that shows the button: there is something to keep by then.
    """
    context = get_executing_context()
    if context is None:
        yield lambda: False
        return
    place = (str(context.prompt_id), str(context.node_id))
    asked = _running[place] = Event()

    def stopped() -> bool:
        _show(place, running=True)
        return asked.is_set()

    try:
        yield stopped
    finally:
        del _running[place]
        _show(place, running=False)


def _show(place: tuple[str, str], *, running: bool) -> None:
    # said again and again, so that a page that is loaded meanwhile hears of it too
    if messages.listening_node() is not None:
        messages.show_json(EVENT, {"prompt_id": place[0], "node_id": place[1], "running": running})


def stop(query: Mapping[str, str]) -> dict[str, Any]:
    """Ask a prompt's node, or all of its nodes, to end early. ValueError where none of them runs that can."""
    prompt, node = query.get("prompt_id", ""), query.get("node_id")
    found = [place for place in list(_running) if place[0] == prompt and node in (None, place[1])]
    if not found:
        of = "" if node is None else f"node {cut(node, 40)} of "
        raise ValueError(
            f'nothing that can be stopped early runs in {of}the prompt "{cut(prompt, 60)}": Stream Video and '
            "Extend Far can while they run, and the queue names the prompt that does"
        )
    for place in found:
        if (asked := _running.get(place)) is not None:
            asked.set()
    return {"stopping": [place[1] for place in found]}


messages.serve_json(ROUTE, stop, post=True)
