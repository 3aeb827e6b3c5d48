"""What the pack costs beside the work: its import, its nodes, single steps, the way to a first video.

import   CPU seconds of importing it, the least of three fresh processes
nodes    CPU milliseconds of a node's run on tiny inputs less what networks take in it; of the nodes of a category the
         median. What a node reads, writes, renders or measures counts: it is an upper bound of its overhead
steps    the whole pipeline in single steps over core's KSampler
video    seconds on the clock from the command to a finished file of the starter workflow
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ..in_process import load_host
from . import imports, speed
from .tiny_nodes import IN_PROCESSES, TinyNodes, save_checkpoints

ROOT = Path(__file__).resolve().parents[2]
GOALS = {"import as a library": 0.5, "import into ComfyUI": 0.5, "single steps": 1.02}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which parts, and how often."""
    parser.add_argument("--only", choices=list(PARTS), help="one part; all when left out")
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many is taken")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Rows name, value, unit, goal (the most that is wanted), met, note."""
    torch.set_num_threads(1)
    for part in [options.only] if options.only else PARTS:
        yield from PARTS[part](options.rounds)


def row(name: str, value: float, unit: str, note: str) -> dict[str, Any]:
    """One of them."""
    goal = GOALS.get(name)
    met = "" if goal is None else bool(value <= goal)
    return {"name": name, "value": value, "unit": unit, "goal": goal or "", "met": met, "note": note}


def import_rows(rounds: int) -> Iterable[dict[str, Any]]:
    """Importing the pack."""
    names = {"bare": "import with torch", "library": "import as a library", "host": "import into ComfyUI"}
    for kind, name in names.items():
        yield row(name, imports.seconds(kind, rounds), "CPU s", imports.KINDS[kind])


def node_rows(rounds: int, chosen: Iterable[str] | None = None) -> Iterable[dict[str, Any]]:
    """Runs of nodes, by category. chosen: the ids of some; those that start a process are left out."""
    _needs_host()
    found: dict[str, dict[str, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        save_checkpoints(Path(folder))
        nodes = TinyNodes(Path(folder))
        for name in chosen or sorted(nodes.nodes.keys() - IN_PROCESSES):
            schema, given = nodes.nodes[name].GET_SCHEMA(), nodes.inputs_of(name)
            execute = nodes.nodes[name].execute
            execute(**given)
            taken = min(outside_networks(lambda run=execute, given=given: run(**given)) for _ in range(rounds))
            found[schema.category][schema.display_name] = 1000 * taken
    for category, times in sorted(found.items()):
        slowest = max(times, key=lambda name: times[name])
        note = f"median of {len(times)}; the slowest is {slowest} with {times[slowest]:.1f}"
        yield row(f"nodes, {category}", statistics.median(times.values()), "CPU ms", note)


def outside_networks(run: Callable[[], Any]) -> float:
    """CPU seconds of a run less those inside of networks (`nn.Module`)."""
    inside, depth, call = 0.0, 0, torch.nn.Module.__call__

    def timed(module: torch.nn.Module, *args: Any, **named: Any) -> Any:
        nonlocal inside, depth
        begin, depth = time.process_time(), depth + 1
        try:
            return call(module, *args, **named)
        finally:
            depth -= 1
            inside += 0.0 if depth else time.process_time() - begin

    torch.nn.Module.__call__ = timed  # type: ignore[method-assign,assignment]
    try:
        begin = time.process_time()
        run()
        return time.process_time() - begin - inside
    finally:
        torch.nn.Module.__call__ = call  # type: ignore[method-assign]


def step_rows(rounds: int, preset: str = "toy", steps: int = 12) -> Iterable[dict[str, Any]]:
    """Single steps of the whole pipeline."""
    _needs_host()
    found = speed.end_to_end(preset, steps, rounds)
    yield row("single steps", found["ours"] / found["reference"], "x KSampler", found["note"])


def video_rows(rounds: int) -> Iterable[dict[str, Any]]:
    """From the command to the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "first.mp4"
        command = [sys.executable, str(ROOT / "run.py"), "video", "a red ball bounces", "--out", str(file)]
        times = []
        for _ in range(rounds):
            begin, before = time.perf_counter(), _of_children()
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode or not file.exists():
                raise SystemExit(f"no video was made: {done.stderr[-500:]}")
            times.append((time.perf_counter() - begin, _of_children() - before))
            file.unlink()
    taken, cpu = min(times)
    yield row("first video", taken, "s", f"run.py video: ComfyUI is started, 24 steps, decoded, saved; {cpu:.1f} CPU s")


def _of_children() -> float:
    """CPU seconds of processes that this one has waited for, and theirs."""
    now = os.times()
    return now.children_user + now.children_system


def _needs_host() -> None:
    if not load_host():
        raise SystemExit("ComfyUI has not been fetched yet: run `python3 run.py setup`")
    logging.getLogger().setLevel(logging.ERROR)


PARTS = {"import": import_rows, "nodes": node_rows, "steps": step_rows, "video": video_rows}
