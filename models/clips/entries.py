"""What lies in a folder of clips: the files that are looked at, and each other entry with the reason why it is not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..media.kinds import IMAGES, VIDEOS
from ..remedies import remedy

CAPTIONS = (".txt", ".json")
Reason = tuple[str, str]  # an entry as people read it, and why it is not used


@dataclass(frozen=True)
class Entries:
    """The entries of a folder and its sub-folders, by their path in it with /. Hidden ones do not count."""

    media: tuple[str, ...]  # videos and pictures
    unused: tuple[Reason, ...] = ()

    @cached_property
    def stems(self) -> Counter[str]:
        """How many of the files have a path without its ending."""
        return Counter(stem_of(name) for name in self.media)


def stem_of(name: str) -> str:
    """A file's path without its ending."""
    return PurePosixPath(name).with_suffix("").as_posix()


def entries_of(folder: Path) -> Entries:
    """Look through a folder. ValueError when there is none, or it cannot be read itself."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: make it and put video files into it")
    unused: list[Reason] = []
    names = [name for name, why in _walk(folder, folder) if not why or unused.append((shown(name), why))]  # type: ignore[func-returns-value]
    media = tuple(name for name in names if PurePosixPath(name).suffix.lower() in VIDEOS | IMAGES)
    owned = {base + kind for name in media for base in (name, stem_of(name)) for kind in CAPTIONS}
    unused += [(shown(name), _why_not(name)) for name in set(names) - set(media) - owned]
    return Entries(media, tuple(sorted(unused)))


def _why_not(name: str) -> str:
    kind = PurePosixPath(name).suffix.lower()
    if kind in CAPTIONS:
        return "it has no video or picture of the same name beside it"
    return f"files of the type {shown(kind)} are not read here" if kind else "it has no type at the end of its name"


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Files by their path in `root`, in order, each with an empty text or the reason why it cannot be used."""
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        if folder == root:
            raise ValueError(f"{folder} cannot be read, {remedy(error)}") from error
        yield folder.relative_to(root).as_posix(), f"this folder cannot be read, {remedy(error)}"
        return
    for path in paths:
        why = why_unusable(path, root)
        if not why and path.is_dir():
            yield from _walk(path, root)
        else:
            yield path.relative_to(root).as_posix(), why


def why_unusable(path: Path, root: Path) -> str:
    """Why nothing can be read from an entry, whatever its type; empty where something may be."""
    try:
        path.name.encode()
        if not path.resolve().is_relative_to(root.resolve()):
            return "it is a link that leads out of the folder"
        path.stat()
    except UnicodeEncodeError:
        return "its name is not UTF-8: give it another one"
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, before Python 3.13
        if path.is_symlink():
            return "it is a link that leads nowhere"
        return f"it cannot be read, {remedy(error)}" if isinstance(error, OSError) else "it cannot be read"
    if path.is_symlink() and path.is_dir():
        return "it is a link to a folder, and those are not followed: copy the folder"
    return "" if path.is_dir() or path.is_file() else "it is no file"


def folder_mark(folder: Path) -> str:
    """Changes when anything in a folder does: a file, a sidecar, or whether one of them can be used."""
    described = []
    for name, why in _walk(folder, folder):
        stamp = ""
        with suppress(OSError, RuntimeError):
            stamp = stamp_of(folder / name)
        described.append(f"{shown(name)} {stamp} {why}")
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


def stamp_of(path: Path) -> str:
    """Changes when the file does."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def shown(name: str) -> str:
    """A name for people: bytes that are no UTF-8, and characters that cannot be seen, as their codes."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def in_words(reasons: Collection[Reason], what: str = "", most: int = 5) -> list[str]:
    """Reasons as lines for people; what many entries have in common is one line. what: becomes of them, or skipped."""
    by_reason: dict[str, list[str]] = {}
    for name, why in reasons:
        by_reason.setdefault(why, []).append(shown(name))
    lines = []
    for why, names in by_reason.items():
        groups = [[name] for name in names] if len(names) <= most else [[*names[:most], f"{len(names) - most} more"]]
        for group in groups:
            listed = ", ".join(group)
            lines.append(f"{listed}: {what}, {why}" if what else f"skipped {listed}: {why}")
    return lines
