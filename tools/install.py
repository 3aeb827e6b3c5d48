"""Add what the pack needs to the Python of somebody's ComfyUI, without changing anything that is there."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ..models.files import parsed_json, read_text, write_text
from . import comfyui
from .locks import ROOT, normalised
from .terminal import Trouble, last_line, say, step

REQUIREMENTS = ROOT / "requirements.txt"
# four packages with the same module cv2 inside; a second one beside the first would overwrite it
OPENCV = {"opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"}
PLAIN = re.compile(r"[\w.+!]+")  # a version that pip takes as a constraint
LIST = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}))
"""


def install(path: str | None) -> int:
    """Install what is missing for the ComfyUI at `path`, else for the one around us, else for the Python in use."""
    tree = comfyui.tree_at(path) if path else comfyui.inside_another()
    python = comfyui.foreign_python(tree) if tree else Path(sys.executable)
    present = packages_of(python)
    if "torch" not in present:
        raise Trouble(
            f"{python} has no torch, so it is not the Python that runs ComfyUI: start this with the one that does, or "
            "say where ComfyUI is with --comfyui PATH."
        )
    missing = missing_for(present)
    if not missing:
        say(f"{python} has all that the pack needs")
        return 0
    with step(f"installing {', '.join(missing)} for {python}"):
        add(python, missing, present)
    return 0


def packages_of(python: Path) -> dict[str, str]:
    """The packages of a Python and their versions, by normalised name."""
    done = subprocess.run([str(python), "-c", LIST], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Trouble(f"{python} does not run: {last_line(done.stderr)}")
    return {normalised(name): version for name, version in parsed_json(done.stdout, "what pip says", dict).items()}


def missing_for(present: dict[str, str]) -> list[str]:
    """The lines of requirements.txt that a Python does not meet; any build of OpenCV will do."""
    lines = [line.strip() for line in read_text(REQUIREMENTS).splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    return [name for name in names if not present.keys() & (OPENCV if name in OPENCV else {normalised(name)})]


def add(python: Path, missing: list[str], present: dict[str, str]) -> None:
    """Have pip install these in versions that suit every package that is there, each held at its version."""
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held.txt"
        pinned = (f"{name}=={version}\n" for name, version in present.items() if PLAIN.fullmatch(version))
        write_text(held, "".join(pinned))
        pip_install(python, "--only-binary", ":all:", "-c", str(held), *missing)


def pip_install(python: Path, *arguments: str) -> None:
    """Call a Python's pip; Trouble with its last error when it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "error"))]
        raise Trouble(f"pip failed, and nothing was changed: {errors[-1] if errors else last_line(done.stderr)}")
