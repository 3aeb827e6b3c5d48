"""The environment that `run.py` alone makes, shown out of one that holds the development packages too.

A virtual environment of its own, whose folder of packages has links to what the wanted packages recorded and nothing
else. So workflows are tested where users run them, without a second installation of two gigabytes.
"""

import subprocess
import sys
from pathlib import Path, PurePosixPath

from . import locks, packages

WITH_PYTHON = {"pip", "setuptools"}  # what making a virtual environment may bring


def plain_python(folder: Path) -> Path:
    """A Python that sees the packages of the host's lock alone, made under `folder`. The one in use must have them.

    ValueError when it lacks some.
    """
    names = set(locks.pins(locks.HOST_LOCK, sys.version_info[:2])) | {"torch"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (place,) = packages.site_packages(folder)
    missing = names - show(Path(sys.prefix), names | WITH_PYTHON, place)
    if missing:
        raise ValueError(f"this Python lacks packages of {locks.HOST_LOCK.name}: {', '.join(sorted(missing))}")
    return folder / "bin" / "python"


def show(venv: Path, names: set[str], place: Path) -> set[str]:
    """Link what these packages of a virtual environment recorded into `place`; returns which were found.

    Whole folders are linked where they belong to these packages alone.
    """
    wanted: set[PurePosixPath] = set()
    shared: set[PurePosixPath] = {PurePosixPath()}
    found: set[str] = set()
    for info in packages.infos(venv):
        files = {PurePosixPath(name) for name in packages.recorded(info) if not name.startswith(("..", "/"))}
        name = packages.name_and_version(info)[0]
        if name in names:
            wanted |= files
            found.add(name)
        else:
            shared |= {parent for path in files for parent in path.parents}
    (source,) = packages.site_packages(venv)
    for part in {first_own(path, shared) for path in wanted if "__pycache__" not in path.parts}:
        (place / part).parent.mkdir(parents=True, exist_ok=True)
        (place / part).symlink_to(source / part)
    return found


def first_own(path: PurePosixPath, shared: set[PurePosixPath]) -> PurePosixPath:
    """The outermost folder of a path that no other package uses, else the path itself."""
    return next((parent for parent in reversed(path.parents) if parent not in shared), path)
