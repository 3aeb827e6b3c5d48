"""The lock files: which version of each package, and the sha256 of every file that pip may take for it.

They are made by `uv pip compile` (see CONTRIBUTING.md) and read here without any package, since this runs first.
"""

import ast
import operator
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..models.files import read_text

ROOT = Path(__file__).resolve().parents[1]
HOST_LOCK = ROOT / "requirements-lock.txt"
DEV_LOCK = ROOT / "requirements-dev-lock.txt"
TORCH_LOCK = ROOT / "requirements-torch-lock.txt"
TORCH_CPU_LOCK = ROOT / "requirements-torch-cpu-lock.txt"
Version = tuple[int, ...]
COMPARE: dict[type, Callable[[object, object], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def pins(lock: Path, python: Version) -> dict[str, str]:
    """The exact versions of a lock file that apply to a version of Python on this machine, by normalised name."""
    return {name: version for name, version, marker in entries(lock) if applies(marker, python)}


def entries(lock: Path) -> Iterator[tuple[str, str, str]]:
    """Name, version and marker of every package of a lock file. ValueError for a line that pins nothing."""
    for line in read_text(lock).splitlines():
        requirement = line.removesuffix("\\").strip()
        if not requirement or requirement.startswith(("#", "--hash=")):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.+!-]+)(?:\s*;\s*(.+))?", requirement)
        if match is None:
            raise ValueError(f"{lock.name} holds a line that is no exact version: {line.strip()}")
        yield normalised(match[1]), match[2], match[3] or ""


def normalised(name: str) -> str:
    """A package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def applies(marker: str, python: Version) -> bool:
    """Whether an environment marker (PEP 508, as far as our lock files use it) holds here."""
    return not marker or holds(ast.parse(marker, mode="eval").body, python)


def holds(node: ast.AST, python: Version) -> bool:
    """One part of a marker, whose grammar is that of Python. ValueError for a part that our lock files do not use."""
    if isinstance(node, ast.BoolOp):
        parts = [holds(value, python) for value in node.values]
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    match node:
        case ast.Compare(left=ast.Name(id=name), ops=[how], comparators=[ast.Constant(value=str(wanted))]):
            if type(how) in COMPARE:
                return compare(name, COMPARE[type(how)], wanted, python)
    raise ValueError(f"a lock file uses a marker that tools/locks.py cannot read: {ast.unparse(node)}")


def compare(name: str, how: Callable[[object, object], bool], wanted: str, python: Version) -> bool:
    """One comparison of a marker; versions are compared as far as the wanted one goes."""
    if name in ("python_version", "python_full_version"):
        numbers = tuple(int(part) for part in wanted.removesuffix(".*").split("."))
        return how(python[: len(numbers)], numbers)
    here = {"sys_platform": sys.platform, "platform_machine": platform.machine()}
    if name not in here:
        raise ValueError(f"a lock file asks for {name}, which tools/locks.py does not know")
    return how(here[name], wanted)
