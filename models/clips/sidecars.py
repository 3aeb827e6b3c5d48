"""Captions beside video files, and sets of captions elsewhere.

A file's captions are the lines of the .txt beside it (clip.mp4, clip.txt). A .json beside it may describe its clips by
time, in seconds: {"clips": [{"start": 0.0, "end": 2.7, "caption": "...", "fields": {...}}]}. Both may carry the file's
whole name (clip.mp4.txt), and must where two files have one stem (clip.mp4, clip.mov). A set of captions is a folder
with the same sub-folders and names; what it says goes before what lies beside the files. Caption Clips writes such
sets, since it must not write where the files are; each .json in one says what it was made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..files import parsed_json, read_text, write_json, write_text
from .entries import Entries, stem_of, why_unusable

MAX_CAPTIONS = 8
MAX_BYTES = 4_000_000  # of a sidecar
ENDS = 65536  # bytes at both ends of a file that its fingerprint looks at


@dataclass(frozen=True)
class TimedCaption:
    """What a file shows between two moments, in seconds."""

    start: float
    end: float
    caption: str


@dataclass(frozen=True)
class Sidecar:
    """The captions of one file: by time where they are known so, and lines that hold for all of it.

    problem: why something that is written about the file is not used.
    """

    timed: tuple[TimedCaption, ...] = ()
    lines: tuple[str, ...] = ()
    problem: str = ""

    def at(self, start: float, seconds: float) -> tuple[str, ...]:
        """The captions of the clip from `start` on: those of the stretch that shares the most time with it."""

        def shared(one: TimedCaption) -> float:
            return min(one.end, start + seconds) - max(one.start, start)

        if not self.timed:
            return self.lines
        best = max(self.timed, key=shared)
        return (best.caption,) if shared(best) > 0 else ()


@dataclass(frozen=True)
class CaptionFiles:
    """Where the captions of a folder's files are: in a set of captions, if there is one, and beside the files."""

    folder: Path
    entries: Entries
    captions: Path | None = None

    def of(self, name: str) -> Sidecar:
        """What is written about a file (its path in the folder), in the set or else beside it."""
        problem = ""
        for root in (self.captions, self.folder):
            for base in (name, stem_of(name)) if root else ():
                assert root is not None
                try:
                    timed, lines = self._read(root, base, name)
                except ValueError as error:
                    problem = problem or str(error)
                    continue
                if timed or lines:
                    return Sidecar(timed, lines, problem)
        return Sidecar(problem=problem)

    def record(self, name: str) -> dict[str, Any]:
        """What `write` wrote about a file; empty when nothing whole is there."""
        assert self.captions is not None
        for base in (name, stem_of(name)):
            try:
                record = parsed_json(_text(self.captions, f"{base}.json") or "{}", base, dict)
                written = _text(self.captions, f"{base}.txt")
            except ValueError:
                continue
            clips = record.get("clips")
            whole = written and isinstance(clips, list) and all(isinstance(clip, dict) for clip in clips)
            if whole and record.get("file") == name:
                return record
        return {}

    def write(self, name: str, clips: Sequence[dict[str, Any]], made_from: dict[str, Any]) -> None:
        """Write what a file's clips show into the set: for us a .json, then for people and other tools a .txt.

        The .json alone says all, so a kill between the two changes no caption; `record` notices that the .txt is
        missing. The .txt has one line for each clip.
        """
        assert self.captions is not None
        alone = self.entries.stems[stem_of(name)] < 2
        base = stem_of(name) if alone else name
        text = self.captions / f"{base}.txt"
        text.unlink(missing_ok=True)  # of captions before these
        write_json(self.captions / f"{base}.json", made_from | {"clips": list(clips)}, indent=1)
        write_text(text, "".join(f"{clip['caption']}\n" for clip in clips))

    def _read(self, root: Path, base: str, name: str) -> tuple[tuple[TimedCaption, ...], tuple[str, ...]]:
        """Captions of `name` in the files that begin with `base`. ValueError when they are not to be used."""
        text = _text(root, f"{base}.json")
        record = parsed_json(text, f"{base}.json") if text.strip() else {}
        lines = [line.strip() for line in _text(root, f"{base}.txt").splitlines()]
        kept = tuple(line for line in lines if line)[:MAX_CAPTIONS]
        timed = _timed(record)
        if timed or kept:
            self._check_owner(record if isinstance(record, dict) else {}, base, name)
        return timed, kept

    def _check_owner(self, record: dict[str, Any], base: str, name: str) -> None:
        """ValueError when captions may be, or are, about another file than this one as it is now."""
        mark = record.get("content")
        if record.get("file", name) != name:
            raise ValueError(f"{base}.json was written about {record['file']}: its captions are not used")
        if mark and mark != content_of(self.folder / name):
            raise ValueError(
                f"the captions in {base}.json were made from another state of this file: let Caption Clips describe it "
                "again"
            )
        if base != name and "file" not in record and self.entries.stems[base] > 1:
            ending = PurePosixPath(name).suffix
            raise ValueError(
                f"it has the stem of another file, so whose captions {base}.txt holds is not known: call them "
                f"{PurePosixPath(base).name}{ending}.txt"
            )


def content_of(path: Path) -> str:
    """Twelve letters that change with a file's size, beginning or end, and stay when it is copied or moved."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(f"{size} ".encode() + file.read(ENDS))
        file.seek(max(0, size - ENDS))
        digest.update(file.read(ENDS))
    return digest.hexdigest()[:12]


def class_of(path: Path, folder: Path) -> tuple[str, ...]:
    """The name of a file's sub-folder as its caption; ("",) at the top."""
    return ("",) if path.parent == folder else (plain_words(path.parent.name),)


def plain_words(name: str) -> str:
    """The name of a folder as words."""
    return name.replace("_", " ").replace("-", " ").strip()


def _timed(held: object) -> tuple[TimedCaption, ...]:
    """Captions by time; none where the JSON is something else, as many tools write a .json of their own."""
    try:
        entries = held["clips"]  # type: ignore[index]
        found = [TimedCaption(float(e["start"]), float(e["end"]), " ".join(str(e["caption"]).split())) for e in entries]
    except (ValueError, KeyError, TypeError, OverflowError):
        return ()
    return tuple(one for one in found if one.caption)


def _text(root: Path, name: str) -> str:
    """A sidecar's text; empty when there is none. ValueError, by the sidecar's name, when it cannot be used."""
    path = root / name
    if not path.is_symlink() and not path.exists():
        return ""
    why = why_unusable(path, root)
    if why:
        raise ValueError(f"{name} is not used, {why}")
    try:
        return read_text(path, MAX_BYTES)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), name)) from error
