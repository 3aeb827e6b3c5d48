"""Files of every kind, read and written in one way: text, JSON, safetensors.

Reading has limits and ends in a value or in a ValueError of one sentence: which file, where in it, what to do.
Writing is whole or not at all: under a temporary name beside the file, flushed to the disk, then renamed.
The top needs nothing but the standard library, since `run.py` reads files before anything is installed.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .partials import partial_name, remove_stale
from .remedies import cut, remedy

if TYPE_CHECKING:
    from torch import Tensor

MAX_TEXT = 16_000_000  # bytes of a text file
MAX_DEPTH = 100  # lists and objects within each other in a JSON file
MAX_DIGITS = 40  # of a whole number in it
KINDS: dict[type, str] = {dict: "an object {...}", list: "a list [...]"}
MEND = "mend it, or put a whole copy in its place"

# what a file that should have been safetensors begins with -> what it is
BEGINNINGS = {
    b"PK\x03\x04": "a pickle file (or another zip archive), which could run code: convert it to safetensors",
    b"\x80": "a pickle file, which could run code: convert it to safetensors",
    b"GGUF": "a GGUF file: choose the .safetensors file of the model",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run git lfs pull",
    b"<": "a web page: download the file again, from the link that leads to the file itself",
}


def decoded(data: bytes, name: object) -> str:
    """Text in UTF-8, with or without a mark, or in UTF-16 with its mark; lines end in \\n. ValueError for all else.

    name: what the text is, for the error.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{name} is neither UTF-8 nor marked UTF-16 (line {line}): save it as UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{name} is no text, or UTF-16 or UTF-32 that is not marked as such: save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, limit: int = MAX_TEXT) -> str:
    """The text of a file (see `decoded`). ValueError when it is none or has more than `limit` bytes."""
    return decoded(_read(path, limit), path)


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe or a device could be read for ever
            raise ValueError(f"{path} is no file: give the name of a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read, {remedy(error)}") from error
    if len(data) > limit:
        raise ValueError(f"{path} has more than {limit} bytes: it is not what is read here, or it is damaged")
    return data


def read_json(
    path: Path,
    kind: type | None = None,
    *,
    limit: int = MAX_TEXT,
    depth: int = MAX_DEPTH,
    advice: str = MEND,
    nan: bool = False,
) -> Any:
    """The value in a JSON file; see `parsed_json`. ValueError when there is none."""
    return parsed_json(_read(path, limit), path, kind, depth=depth, advice=advice, nan=nan)


def parsed_json(
    text: str | bytes,
    name: object,
    kind: type | None = None,
    *,
    depth: int = MAX_DEPTH,
    advice: str = MEND,
    nan: bool = False,
) -> Any:
    """The value of a JSON text. ValueError says which text it is (`name`), where it is wrong, and `advice`.

    Refused, since they would fail later and elsewhere: more than `depth` levels, a key that occurs twice in an object,
    NaN and infinity (unless `nan`), whole numbers of more than 40 digits, half a surrogate pair, and a value of another
    type than `kind`.
    """
    if isinstance(text, bytes):
        text = decoded(text, name)
    try:
        _check_depth(text, depth)
        value = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_integer,
            parse_constant=float if nan else _constant,
        )
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half of a character (a lone surrogate): {advice}") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name} is no JSON (line {error.lineno}, column {error.colno}: {error.msg}): {advice}"
        ) from None
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{name} cannot be used as JSON, {problem}: {advice}") from None
    if kind is not None and not isinstance(value, kind):
        raise ValueError(f"{name} must hold {KINDS.get(kind, kind.__name__)}, not {cut(value, 40)}: {advice}")
    return value


def _check_depth(text: str, depth: int) -> None:
    if text.count("[") + text.count("{") <= depth:
        return
    # in an even number of steps over the whole text, so that no text makes it slow
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    level = 0
    for bracket in re.findall(r"[\[\]{}]", outside):
        level += 1 if bracket in "[{" else -1
        if level > depth:
            raise ValueError(f"it is nested more than {depth} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the entry {cut(twice, 40)!r} occurs twice in one object")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {cut(digits, 40)} is too large")
    return number


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the number {cut(digits, 40)} has more than {MAX_DIGITS} digits")
    return int(digits)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write under; when the block ends well, what was written there takes the place of `path`.

    It is flushed to the disk first, so that `path` is the old file or the new one, whole, whatever fails; the temporary
    one never stays. OSError, in one sentence, when the system refuses.
    """
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        yield partial
        with partial.open("r+b") as written:  # Windows flushes only what is open for writing
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        if isinstance(error, NotWritten):
            raise
        raise NotWritten(error, path) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def take_place(fresh: Path, place: Path) -> None:
    """Let a finished folder have the name of another, which is removed. NotWritten when the system refuses; the other
    is then where it was."""
    aside = partial_name(place)
    try:
        if place.exists():
            place.replace(aside)
        fresh.replace(place)
    except OSError as error:
        with suppress(OSError):
            if not place.exists():
                aside.replace(place)
        raise NotWritten(error, place) from error
    shutil.rmtree(aside, ignore_errors=True)


class NotWritten(OSError):  # noqa: N818 - a sentence for the user; callers catch OSError
    """A file was not written; the one that was there before is untouched. Its text is one sentence; errno is kept."""

    def __init__(self, error: OSError, path: Path) -> None:
        super().__init__(f"{path} cannot be written, {remedy(error)}; what was there is kept")
        self.errno = error.errno


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. OSError when the system refuses."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path} was not written: the text holds half of a character (a lone surrogate)") from None
    write_bytes(path, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. OSError when the system refuses."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    """Write a value as a JSON file that read_json reads, whole or not at all. ValueError for NaN and infinity."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} was not written: its content is no JSON ({cut(str(error))})") from error
    write_text(path, text)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all. OSError when the disk is full; the old file is then untouched."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as partial:
        try:
            save_file({key: value.detach().contiguous().cpu() for key, value in tensors.items()}, partial, dict(header))
        except SafetensorError as error:  # carries the system's error as text only
            found = re.search(r"os error (\d+)", str(error))
            raise OSError(int(found[1]) if found else None, cut(str(error))) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the header of a safetensors file. ValueError, in one sentence, when it is not one."""
    with opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file to read single tensors or slices of. ValueError, in one sentence, when it is not one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is {_instead(path, error)}") from error


def _instead(path: Path, error: Exception) -> str:
    """What a file is that is no safetensors file."""
    if isinstance(error, OSError) and error.errno:
        return f"not readable, {remedy(error)}"
    with suppress(OSError), path.open("rb") as file:
        start = file.read(32)
        if not start:
            return "empty: download or copy it again"
        if start[8:9] != b"{":  # where the header of a safetensors file begins, after its length
            for beginning, text in BEGINNINGS.items():
                if start.startswith(beginning):
                    return text
    return f"not a whole safetensors file ({cut(str(error))}): download or copy it again"
