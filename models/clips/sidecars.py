"""Captions beside video files, and sets of captions elsewhere.

A file's captions are the lines of the .txt beside it (clip.mp4, clip.txt). A .json beside it may describe its clips by
time, in seconds: {"clips": [{"start": 0.0, "end": 2.7, "caption": "...", "fields": {...}}]}. A set of captions is a
folder with the same sub-folders and names; what it says goes before what lies beside the files. Caption Clips writes
such sets, since it must not write where the files are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_text

MAX_CAPTIONS = 8
MAX_BYTES = 4_000_000  # of a sidecar


@dataclass(frozen=True)
class TimedCaption:
    """What a file shows between two moments, in seconds."""

    start: float
    end: float
    caption: str


@dataclass(frozen=True)
class Sidecar:
    """The captions of one file: by time where they are known so, and lines that hold for all of it."""

    timed: tuple[TimedCaption, ...] = ()
    lines: tuple[str, ...] = ()

    def at(self, start: float, seconds: float) -> tuple[str, ...]:
        """The captions of the clip from `start` on: those of the stretch that shares the most time with it."""

        def shared(one: TimedCaption) -> float:
            return min(one.end, start + seconds) - max(one.start, start)

        if not self.timed:
            return self.lines
        best = max(self.timed, key=shared)
        return (best.caption,) if shared(best) > 0 else ()


def sidecar_of(path: Path, folder: Path, captions: Path | None = None) -> Sidecar:
    """What is written about a file of a folder, in a set of captions or beside it; empty when nothing is."""
    roots = [(captions, captions / path.relative_to(folder))] if captions else []
    for root, place in [*roots, (folder, path)]:
        timed = _timed(place.with_suffix(".json"), root)
        lines = _lines(place.with_suffix(".txt"), root)
        if timed or lines:
            return Sidecar(timed, lines)
    return Sidecar()


def class_of(path: Path, folder: Path) -> tuple[str, ...]:
    """The name of a file's sub-folder as its caption; ("",) at the top."""
    return ("",) if path.parent == folder else (plain_words(path.parent.name),)


def plain_words(name: str) -> str:
    """The name of a folder as words."""
    return name.replace("_", " ").replace("-", " ").strip()


def _lines(path: Path, folder: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in _read(path, folder).splitlines()]
    return tuple(line for line in lines if line)[:MAX_CAPTIONS]


def _timed(path: Path, folder: Path) -> tuple[TimedCaption, ...]:
    """Captions by time; none where the file holds something else, as many tools write a .json of their own."""
    try:
        entries = json.loads(_read(path, folder) or "{}")["clips"]
        found = [TimedCaption(float(e["start"]), float(e["end"]), " ".join(str(e["caption"]).split())) for e in entries]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(one for one in found if one.caption)


def _read(path: Path, folder: Path) -> str:
    """A sidecar's text; empty when there is none, or it leads out of the folder."""
    try:
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()) and path.stat().st_size <= MAX_BYTES:
            return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        pass
    return ""


def write_sidecar(captions: Path, name: str, clips: Sequence[dict[str, Any]], record: dict[str, Any]) -> None:
    """Write what a file's clips show into a set of captions: the .json whole, then the .txt for people and other tools.

    name: the file's path in its folder. The .txt has one line for each clip.
    """
    place = captions / name
    text = json.dumps(record | {"clips": list(clips)}, indent=1, ensure_ascii=False)
    lines = "".join(f"{clip['caption']}\n" for clip in clips)
    for path, content in ((place.with_suffix(".txt"), lines), (place.with_suffix(".json"), text)):
        write_text(path, content)


def read_record(captions: Path, name: str) -> dict[str, Any]:
    """What write_sidecar wrote about a file; empty when nothing whole is there."""
    try:
        found = json.loads(_read((captions / name).with_suffix(".json"), captions) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
