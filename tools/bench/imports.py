"""CPU seconds of importing the pack, in a process of its own. A part of the overhead benchmark.

python tools/pack.py tools.bench.imports KIND
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

PACK = Path(__file__).resolve().parents[1] / "pack.py"
KINDS = {
    "bare": "a program that makes videos with models/, torch and all",
    "library": "the same where torch is there already",
    "host": "all nodes, where ComfyUI and torch are there already",
}


def seconds(kind: str, rounds: int = 3) -> float:
    """The least of some fresh processes."""
    command = [sys.executable, str(PACK), "tools.bench.imports", kind]
    done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(rounds)]
    return min(float(one.stdout.split()[-1]) for one in done)


def measured(kind: str) -> float:
    """CPU seconds of the import in this process, where nothing of it was imported before."""
    if kind == "host":
        return _nodes()
    if kind == "library":
        import torch  # noqa: F401
    begin = time.process_time()
    from ...models import generate  # noqa: F401

    return time.process_time() - begin


def _nodes() -> float:
    """What ComfyUI does with the pack once it has imported itself."""
    from ..in_process import load_host

    if not load_host():
        raise SystemExit("ComfyUI has not been fetched yet: run `python3 run.py setup`")
    import nodes  # noqa: F401 - the host's own, which come first

    begin = time.process_time()
    from ... import comfy_entrypoint

    async def listed() -> int:
        return len(await (await comfy_entrypoint()).get_node_list())  # type: ignore[attr-defined]

    if not asyncio.run(listed()):
        raise SystemExit("the pack has no nodes here: see the log above")
    return time.process_time() - begin


if __name__ == "__main__":
    print(measured(sys.argv[1]))
