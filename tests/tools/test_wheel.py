"""The wheel is whole: every file that the pack is made of, and a library that runs from it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("models", "nodes", "tools", "web", "workflows", "subgraphs", "locales")
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from comfyui_spacetime import WEB_DIRECTORY
from comfyui_spacetime.models.generate import Models, generate
from comfyui_spacetime.models.text.offline import additions
import comfyui_spacetime.models.training.__main__, comfyui_spacetime.models.cluster.__main__
assert comfyui_spacetime.__file__.startswith(sys.argv[1])
(clip,) = generate(Models.load(dtype=torch.float32), ["a red ball"], num_frames=1, height=32, width=32, steps=1)
print(clip.shape)
"""


def files_of_the_pack() -> set[str]:
    """Every file below the pack's folders that git keeps, or would keep."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PARTS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The content of a wheel that was built of a copy of the checkout, without a network."""
    pytest.importorskip("setuptools", minversion="77", reason="pyproject.toml asks for setuptools 77 or newer")
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*files_of_the_pack(), "__init__.py", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w"]
    subprocess.run([*command, str(place), str(source)], check=True, timeout=300)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place / "unpacked")
    return place / "unpacked"


def test_it_holds_every_file(unpacked):
    inside = unpacked / "comfyui_spacetime"
    found = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()}
    assert files_of_the_pack() - found == set()
    assert {name for name in found if name.startswith("tests/")} == set()


def test_it_runs_as_a_library(unpacked, tmp_path):
    """In a process that sees nothing of the checkout."""
    command = [sys.executable, "-I", "-c", RUN, str(unpacked)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip() == "(1, 32, 32, 3)", done.stderr
