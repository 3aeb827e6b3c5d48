"""What a virtual environment really holds, read from its files in a moment and without starting its Python.

pip writes a package's RECORD anew as its last act. So a package is whole when its RECORD names the file INSTALLER and
every folder that RECORD names is there. One that is not whole must be forgotten before pip is called: for pip a folder
of metadata alone is a package, which it would leave as it is.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from .locks import normalised


def site_packages(venv: Path) -> list[Path]:
    """The folders of packages of a virtual environment."""
    return [
        folder for folder in (venv / "Lib/site-packages", *venv.glob("lib/python*/site-packages")) if folder.is_dir()
    ]


def installed(venv: Path) -> dict[str, str]:
    """Versions of the packages that are whole, by normalised name."""
    return {name: version for info in infos(venv) if is_whole(info) for name, version in [name_and_version(info)]}


def lacking(venv: Path, wanted: dict[str, str]) -> dict[str, str]:
    """The pins that a virtual environment does not meet; a build's own mark, as in 2.13.0+cpu, does not count."""
    have = installed(venv)
    return {name: pin for name, pin in wanted.items() if have.get(name, "").split("+")[0] != pin.split("+")[0]}


def infos(venv: Path) -> list[Path]:
    """The metadata folders of a virtual environment."""
    return [info for folder in site_packages(venv) for info in sorted(folder.glob("*.dist-info"))]


def name_and_version(info: Path) -> tuple[str, str]:
    """What a metadata folder is called after."""
    name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
    return normalised(name), version


def is_whole(info: Path) -> bool:
    """Whether pip finished this package and nobody has taken a part of it away."""
    files = recorded(info)
    folders = {name.rpartition("/")[0] for name in files if "__pycache__" not in name}
    return f"{info.name}/INSTALLER" in files and all((info.parent / folder).exists() for folder in folders)


def recorded(info: Path) -> set[str]:
    """The files that a package's RECORD names (PEP 376: name, hash, size); empty when there is none."""
    try:
        text = (info / "RECORD").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {line.rsplit(",", 2)[0].strip('"') for line in text.splitlines() if line.strip()}


def forget(venv: Path, names: set[str]) -> None:
    """Remove what there is of these packages, whole or not, and what an interrupted pip had put aside.

    The metadata goes last, so that this can be interrupted too.
    """
    for folder in site_packages(venv):
        for leftover in folder.glob("~*"):
            shutil.rmtree(leftover, ignore_errors=True)
    for info in infos(venv):
        if name_and_version(info)[0] not in names:
            continue
        home = info.parent.resolve()
        for name in recorded(info):
            path = home / name
            if ".." not in Path(name).parts and info.name not in Path(name).parts:
                with suppress(OSError):
                    path.unlink()
        shutil.rmtree(info, ignore_errors=True)
