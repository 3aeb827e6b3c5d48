"""What the training commands share: options from dataclasses, clip sizes, folders of clips, progress as lines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

import torch

from ...geometry import FPS, ClipSize
from .ranges import RANGES, option, within
from .stopping import check_stop

Settings = TypeVar("Settings")


def add_settings(parser: argparse.ArgumentParser, settings: object, *, without: Collection[str] = ()) -> None:
    """One option per plain field of a settings dataclass, but for some."""
    for entry in fields(settings):  # type: ignore[arg-type]
        if entry.name in without:
            continue
        default = getattr(settings, entry.name)
        if isinstance(default, bool):
            parser.add_argument(option(entry.name), action=argparse.BooleanOptionalAction, default=default)
        elif entry.name in RANGES:
            add_number(parser, entry.name, default)
        elif isinstance(default, (int, float, str)):
            parser.add_argument(option(entry.name), type=type(default), default=default)


def add_number(parser: argparse.ArgumentParser, name: str, default: float | None, meaning: str = "") -> None:
    """An option of the table of ranges; without a default it must be given."""
    said = ", ".join(part for part in (meaning, str(RANGES[name])) if part)
    parser.add_argument(option(name), type=within(name), default=default, required=default is None, help=said)


def device(text: str) -> str:
    """A device of the command line that this machine has; argparse shows the sentence of this error."""
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.mps.is_available() else [])]
    name, _, number = text.partition(":")
    if name not in there or (number and not (number.isdigit() and int(number) < max(1, torch.cuda.device_count()))):
        raise argparse.ArgumentTypeError(f"this machine has no device {text}, only {', '.join(there)}")
    return text


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where a run computes."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=device, default=default, help="cpu, or a GPU such as cuda")


def chosen(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what the command line says."""
    given = {name: getattr(args, name) for name in asdict(settings) if hasattr(args, name)}  # type: ignore[call-overload]
    return replace(settings, **given)  # type: ignore[type-var]


def add_folder_options(command: argparse.ArgumentParser, *, captions: bool = True) -> None:
    """How a folder of video files is read."""
    add_number(command, "fps", FPS, "frames per second of clips from a folder")
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
