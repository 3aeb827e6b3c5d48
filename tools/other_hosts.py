"""ComfyUIs besides our own: releases from the official repository, and what our tests need beside a tree's packages."""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from ..models.files import read_text, take_place, write_text
from . import environment, locks
from .comfyui import HOST, foreign_python, tree_at
from .terminal import Trouble, step

REPOSITORY = "https://github.com/comfyanonymous/ComfyUI/archive/refs/tags"
VERSIONS = HOST / "versions"
TESTS = ["tests/nodes", "tests/host", "tests/browser"]  # what meets the host; the rest is the same everywhere
# prints the names among its arguments of which a Python has no package
LACKING = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print(name)
"""


def release(tag: str) -> Path:
    """The tree of an official release, fetched the first time, with a `.venv` in it that adds to ours what it lacks."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise Trouble(f"--comfyui-version {tag}: name a release as vX.Y.Z, for example v0.33.0.")
    tree = VERSIONS / tag
    if (tree / "complete").exists():
        return tree
    ours = environment.set_up()
    environment.check_disk(HOST, gigabytes=2)
    fresh = VERSIONS / f"{tag}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    archive = fresh / "archive.tar.gz"
    with step(f"downloading ComfyUI {tag}"):
        download(f"{REPOSITORY}/{tag}.tar.gz", archive, tag)
        unpack(archive, fresh)
    archive.unlink()
    tree_at(str(fresh))
    take_place(fresh, tree)
    add_packages(tree, ours)
    (tree / "complete").touch()
    return tree


def download(url: str, target: Path, tag: str) -> None:
    """One file. Trouble where the release does not exist or nothing can be reached."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as out:
            shutil.copyfileobj(answer, out)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise Trouble(f"There is no ComfyUI {tag} in the official repository: choose another release.") from None
        raise Trouble(f"ComfyUI {tag} cannot be fetched: the official repository answered {error.code}.") from None
    except (OSError, ValueError) as error:
        raise Trouble(
            f"ComfyUI {tag} cannot be fetched from the official repository ({getattr(error, 'reason', error)}): leave "
            "out --comfyui-version to use the one from the package index, or give a copy of it with --comfyui PATH."
        ) from None


def unpack(archive: Path, tree: Path) -> None:
    """The files of a release without its outer folder. Trouble for an entry that would land anywhere else."""
    with tarfile.open(archive) as held:
        for entry in held:
            inside = Path(*Path(entry.name).parts[1:])
            target = tree / inside
            if not entry.isfile():
                continue
            if ".." in inside.parts or inside.is_absolute() or inside == Path():
                raise Trouble(f"{archive.name} holds a file outside of its folder ({entry.name}): it is not unpacked.")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = held.extractfile(entry)
            assert content is not None, "it is a file"
            with content, target.open("wb") as out:
                shutil.copyfileobj(content, out)


def add_packages(tree: Path, ours: Path) -> None:
    """A `.venv` for a release: it sees the packages of ours, torch among them, and has its own where it asks."""
    place = tree / ".venv"
    environment.run([str(ours), "-m", "venv", "--without-pip", str(place)], "Making its .venv failed")
    python = foreign_python(tree)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    sites = [subprocess.check_output([str(one), "-c", where], text=True).strip() for one in (python, ours)]
    write_text(Path(sites[0], "spacetime.pth"), sites[1] + "\n")
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
    with step("installing the packages that this release asks for"):
        environment.run([*command, "-r", str(tree / "requirements.txt")], "Its packages could not be installed")


def for_tests(path: str) -> tuple[Path, dict[str, str]]:
    """The Python of a ComfyUI and the variables with which it runs our tests. Nothing in the tree is changed."""
    tree = tree_at(path)
    python = foreign_python(tree)
    inherited = os.environ.get("PYTHONPATH")
    added = os.pathsep.join([str(dev_packages(python)), *([inherited] if inherited else [])])
    caches = {"PYTHONPYCACHEPREFIX": str(HOST / "pycache")}
    return python, {"SPACETIME_COMFYUI": str(tree), "PYTHONPATH": added, **caches}


def dev_packages(python: Path) -> Path:
    """A folder in `.host/` with the packages of our development lock that a Python lacks; it keeps those it has."""
    site = HOST / "sites" / hashlib.sha256(str(python).encode()).hexdigest()[:12]
    version = subprocess.check_output([str(python), "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    wanted = locks.pins(locks.DEV_LOCK, tuple(int(part) for part in version.split()))
    seen = {**os.environ, "PYTHONPATH": str(site)}
    missing = subprocess.check_output([str(python), "-c", LACKING, *wanted], text=True, env=seen).split()
    if not missing:
        return site
    excerpt = site / "lacking.txt"
    write_text(excerpt, locked_lines(locks.DEV_LOCK, set(missing)))
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
    with step(f"fetching {len(missing)} development packages"):
        environment.run(
            [*command, *environment.LOCKED, "--upgrade", "--target", str(site), "-r", str(excerpt)],
            "The development packages could not be fetched",
        )
    return site


def locked_lines(lock: Path, names: set[str]) -> str:
    """The part of a lock file that is about these packages, with its hashes."""
    kept, wanted = [], False
    for line in read_text(lock).splitlines(keepends=True):
        if line[:1].isalnum():
            wanted = locks.normalised(line.split("==")[0]) in names
        if wanted and not line.lstrip().startswith("#"):
            kept.append(line)
    return "".join(kept)


def tree_of(options: argparse.Namespace) -> str | None:
    """The ComfyUI that the options name, fetched where it is a release; None for the usual one."""
    tag = getattr(options, "comfyui_version", None)
    return str(release(tag)) if tag else options.comfyui
