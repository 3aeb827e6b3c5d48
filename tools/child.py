"""Run a command of Python as a process of its own, and stop it in good order."""

import os
import subprocess
from pathlib import Path

from .environment import ROOT


class Terminated(KeyboardInterrupt):
    """This process alone was asked to end, while Ctrl-C reaches what it started too."""


def stop(*_: object) -> None:
    """Being asked to end is as good as Ctrl-C: whatever was started is stopped on the way out."""
    raise Terminated


def run_in(python: Path, arguments: list[str], *, apart: bool = False, variables: dict[str, str] | None = None) -> int:
    """Run a Python command and return its exit code; Ctrl-C reaches it too, and it gets time to end.

    apart: it has processes of its own, and tells them; Ctrl-C must not reach those twice.
    """
    variables = {**os.environ, **(variables or {})}
    process = subprocess.Popen([str(python), *arguments], cwd=ROOT, start_new_session=apart, env=variables)
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        if apart or isinstance(interrupt, Terminated):
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
