"""What the training commands share: options from dataclasses, clip sizes, folders of clips, progress as lines."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

from ...clips.cache import FPS, ClipSize
from .stopping import check_stop

Settings = TypeVar("Settings")


def add_settings(parser: argparse.ArgumentParser, settings: object) -> None:
    """One option per plain field of a settings dataclass."""
    for entry in fields(settings):  # type: ignore[arg-type]
        default = getattr(settings, entry.name)
        option = f"--{entry.name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        elif isinstance(default, (int, float, str)):
            parser.add_argument(option, type=type(default), default=default)


def chosen(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what the command line says."""
    given = {name: getattr(args, name) for name in asdict(settings) if hasattr(args, name)}  # type: ignore[call-overload]
    return replace(settings, **given)  # type: ignore[type-var]


def add_folder_options(command: argparse.ArgumentParser, *, captions: bool = True) -> None:
    """How a folder of video files is read."""
    command.add_argument("--fps", type=float, default=FPS, help="frames per second of clips from a folder")
    command.add_argument("--index", type=Path, help="file that remembers what the folder's videos hold")
    if captions:
        command.add_argument("--captions", type=Path, help="set of captions (`train caption`), before the sidecars")


def sizes(text: str) -> tuple[ClipSize, ...]:
    """Clip sizes of the command line; argparse shows the sentence of this error."""
    try:
        return ClipSize.parse_list(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Said:
    """Progress as lines, at most one a second; work that keeps what it has done also ends here when asked to."""

    def __init__(self, what: str) -> None:
        self.what, self.last = what, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        check_stop()
        if time.monotonic() - self.last >= 1:
            self.last = time.monotonic()
            print(f"{self.what} {done + 1} of {total}", file=sys.stderr, flush=True)
