"""Other ComfyUIs: an official release is fetched, and our tests run with the Python of any tree and change nothing."""

import io
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from comfyui_spacetime.tools import commands, development, environment, locks, other_hosts
from comfyui_spacetime.tools.terminal import Trouble

TAG = "v9.8.7"


def archive(folder: Path, names: dict[str, str]) -> None:
    """A release as the repository serves it: one folder with everything in it."""
    with tarfile.open(folder / f"{TAG}.tar.gz", "w:gz") as packed:
        for name, text in names.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            packed.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that stands for the official repository, and one for `.host/versions`."""
    monkeypatch.setattr(other_hosts, "REPOSITORY", tmp_path.as_uri())
    monkeypatch.setattr(other_hosts, "VERSIONS", tmp_path / "versions")
    monkeypatch.setattr(environment, "set_up", lambda **_: Path(sys.executable))
    return tmp_path


TREE = {"main.py": "", "folder_paths.py": "", "requirements.txt": "", "comfy/samplers.py": "pass"}


def test_a_release_is_fetched_once_and_sees_our_packages(served):
    archive(served, {f"ComfyUI-9.8.7/{name}": text for name, text in TREE.items()})
    tree = other_hosts.release(TAG)
    assert (tree / "comfy" / "samplers.py").read_text() == "pass"
    python = other_hosts.foreign_python(tree)
    assert python.is_relative_to(tree)
    assert subprocess.run([str(python), "-c", "import torch, pytest"], check=False).returncode == 0
    (served / f"{TAG}.tar.gz").unlink()
    assert other_hosts.release(TAG) == tree, "the second time nothing is fetched"


def test_what_cannot_be_fetched_is_one_sentence(served, monkeypatch):
    with pytest.raises(Trouble, match=r"name a release as vX\.Y\.Z"):
        other_hosts.release("newest")
    with pytest.raises(Trouble, match=r"v9\.8\.7 cannot be fetched .*leave out --comfyui-version"):
        other_hosts.release(TAG)
    # an address where nobody listens
    monkeypatch.setattr(other_hosts, "REPOSITORY", "http://127.0.0.1:9")
    with pytest.raises(Trouble, match=r"cannot be fetched .*--comfyui PATH"):
        other_hosts.release(TAG)
    assert not (served / "versions" / TAG).exists()


def test_an_archive_never_writes_outside_of_its_folder(served):
    archive(served, {"ComfyUI-9.8.7/main.py": "", "ComfyUI-9.8.7/../../outside.py": "gotcha"})
    with pytest.raises(Trouble, match="outside of its folder"):
        other_hosts.release(TAG)
    assert not list(served.rglob("outside.py"))


def test_a_python_gets_only_the_development_packages_that_it_lacks(tmp_path, monkeypatch):
    """Those it has stay its own: nothing of ours takes their place."""
    monkeypatch.setattr(other_hosts, "HOST", tmp_path)
    venv.create(tmp_path / "theirs", symlinks=True)
    python = tmp_path / "theirs" / "bin" / "python"
    lib = next((tmp_path / "theirs").glob("lib/python*/site-packages"))
    (lib / "pytest-1.0.dist-info").mkdir()
    (lib / "pytest-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest\nVersion: 1.0\n")
    asked = []
    monkeypatch.setattr(environment, "run", lambda command, _failed: asked.append(command))
    site = other_hosts.dev_packages(python)
    ((*_, where),) = asked
    assert "--require-hashes" in asked[0]
    assert asked[0][asked[0].index("--target") + 1] == str(site)
    lines = Path(where).read_text()
    names = [locks.normalised(line.split("==")[0]) for line in lines.splitlines() if line[:1].isalnum()]
    wanted = set(locks.pins(locks.DEV_LOCK, sys.version_info[:2]))
    assert set(names) == wanted - {"pytest"}
    assert lines.count("--hash=sha256:") >= len(names)


def test_a_python_that_has_them_all_is_given_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(other_hosts, "HOST", tmp_path)
    monkeypatch.setattr(environment, "run", lambda *_: pytest.fail("nothing is missing"))
    assert not other_hosts.dev_packages(Path(sys.executable)).exists()


def test_run_py_test_hands_the_tree_and_its_python_to_pytest(tmp_path, monkeypatch):
    for name in TREE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    seen = []
    monkeypatch.setattr(
        development, "run_in", lambda python, arguments, **more: seen.append((python, arguments, more)) or 0
    )
    monkeypatch.setattr(development, "chromium_path", lambda **_: "chromium")
    before = sorted(tmp_path.rglob("*"))
    assert commands.main(["test", "--comfyui", str(tmp_path), "-q"]) == 0
    assert commands.main(["test", "--comfyui", str(tmp_path), "tests/nodes"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    (python, whole, more), (_, part, _) = seen
    assert python == Path(sys.executable), "a tree without an environment of its own runs with ours"
    assert whole == ["-m", "pytest", *other_hosts.TESTS, "-q"]
    assert part == ["-m", "pytest", "tests/nodes"]
    assert more["variables"]["SPACETIME_COMFYUI"] == str(tmp_path)
