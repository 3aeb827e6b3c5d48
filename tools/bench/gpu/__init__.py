"""A card in minutes: whether every path of models/ gives there what the CPU gives, and how fast the large ones are.

Needs torch, numpy, pillow, safetensors and einops, no host and no network; on a bare machine, with the Python that has
them:

    python3 tools/pack.py tools.bench gpu --minutes 6 --json gpu.json

Rows come in the order of their worth, and the JSON is written after each, so that what is cut off is worth least. A row
that fails says why, and the next one goes on. `value` of a check is the largest difference from the CPU by the largest
number; of a network the share of the card's own matrix rate, which the row `matrix rate` measures (MFU); `ms` is the
median time. Where there is no GPU, or with --tiny, sizes are tiny: that tests the benchmark.
"""

import argparse
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from .measure import Card, Case, Found

GROUPS = ("checks", "runs", "networks", "attention", "vae", "small", "compiled", "sizes")
GRACE = 20.0  # seconds after the end in which a row that cannot be interrupted may still end by itself


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long, where, and what of it."""
    parser.add_argument("--minutes", type=float, default=6.0, help="it ends by itself within these")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test the benchmark itself")
    parser.add_argument(
        "--only", choices=GROUPS, action="append", help="this group of rows; may be given several times"
    )


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Rows group, name, ok, value, unit, ms, seconds (that the row took), note."""
    device = torch.device(options.device)
    card = Card(device, tiny=options.tiny or device.type == "cpu")
    ends = time.monotonic() + 60 * options.minutes
    torch.manual_seed(0)
    with last_resort(ends + GRACE):
        for group in options.only or GROUPS:
            for case in importlib.import_module(f".{group}", __package__).cases(card):
                begin = time.monotonic()
                found = outcome(card, case, ends - begin)
                yield {
                    "group": group,
                    "name": case.name,
                    "ok": found.ok,
                    "value": found.value,
                    "unit": found.unit,
                    "ms": found.ms,
                    "seconds": round(time.monotonic() - begin, 2),
                    "note": found.note,
                }


def outcome(card: Card, case: Case, left: float) -> Found:
    """What a case found, or why it did not."""
    if left < 1:
        return Found(None, "", note="no time left", ok=False)
    try:
        if case.heavy:
            card.empty()
        with given_up_after(min(case.limit, left)):
            found = case.run()
            card.wait()
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:200]
        return Found(None, "", note=f"failed: {type(error).__name__}: {said}", ok=False)
    return found


@contextmanager
def given_up_after(seconds: float) -> Iterator[None]:
    """TimeoutError in what runs inside, after some seconds; where the system or the thread has no alarms, nothing."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"given up after {seconds:.0f} s")

    handler = signal.signal(signal.SIGALRM, ring)
    others, every = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, others, every)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def last_resort(ends: float) -> Iterator[None]:
    """End the process where something holds it past its end and cannot be interrupted: what is found is written."""

    def leave() -> None:
        print("\nended: a row could not be interrupted", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(ends - time.monotonic(), leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
