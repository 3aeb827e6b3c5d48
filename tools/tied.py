"""Run a Python script that must not outlive the process that started it, even when that one is killed outright.

`python tools/tied.py main.py ...` runs main.py as `python main.py ...` would. Its standard input is a pipe that the
starting process holds open; when the pipe closes, that process is gone, and the script's group of processes is ended.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE = 10  # seconds between asking and killing


def main() -> None:
    """Run the script named by the first argument with the rest as its own arguments."""
    held = os.dup(0)  # is not handed on to what the script starts
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=end_with_parent, args=(held,), daemon=True).start()
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - as Python itself does
    runpy.run_path(sys.argv[0], run_name="__main__")


def end_with_parent(held: int) -> None:
    """Wait until the other end of the pipe is closed, then end everything."""
    while os.read(held, 4096):
        pass
    if os.name == "nt":
        os._exit(1)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
