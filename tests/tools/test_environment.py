"""The set-up from nothing, interrupted, broken and at the same time, with a package index of a few small wheels."""

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from comfyui_spacetime.tools import environment, locks, packages
from comfyui_spacetime.tools.terminal import Trouble

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (locks.HOST_LOCK, locks.DEV_LOCK, locks.TORCH_LOCK, locks.TORCH_CPU_LOCK)
PYTHONS = [(3, minor) for minor in range(10, 15)]
NAMES = ("torch", "alpha", "beta")
# runs set_up() of the checkout with another folder in its place; the pip that it calls is a script of the test's
DRIVER = """
import subprocess, sys, time
from pathlib import Path
root, here = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(root))
from tools.pack import load
load()
from comfyui_spacetime.tools import environment

def create_venv(*, apt):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment.VENV)], check=True)
    ensure_pip()

def ensure_pip(*_):
    subprocess.run([sys.executable, str(here / "pip.py"), str(environment.VENV), "pip==1"], check=True)

environment.VENV, environment.HOST, environment.LOGS = here / ".venv", here / ".host", here / "logs"
environment.HOST_LOCK = environment.TORCH_LOCK = environment.TORCH_CPU_LOCK = here / "lock.txt"
environment.create_venv, environment.run, environment.repair_extensions = create_venv, ensure_pip, lambda: None
environment.install_torch = lambda: None
environment.pip_command = lambda: [sys.executable, str(here / "pip.py"), str(environment.VENV)]
print(environment.set_up())
"""
# installs as slowly as pip does: metadata, files, and RECORD last; a package with metadata is there and left as it is
PIP = """
import os, sys, time
from pathlib import Path
venv, *arguments = sys.argv[1:]
site = next(Path(venv).glob("lib/python*/site-packages"))
busy = Path(__file__).with_name("busy")
wanted = [one for one in arguments if "==" in one]
if "-r" in arguments:
    wanted = Path(arguments[arguments.index("-r") + 1]).read_text().split()
    os.close(os.open(busy, os.O_CREAT | os.O_EXCL))  # fails when another one is at work
    with Path(__file__).with_name("calls").open("a") as calls:
        calls.write("x")
for name, version in (one.split("==") for one in wanted):
    info = site / f"{name}-{version}.dist-info"
    if info.exists():
        continue
    info.mkdir()
    (info / "METADATA").write_text("")
    time.sleep(0.03)
    (site / name).mkdir(exist_ok=True)
    (site / name / "__init__.py").write_text("")
    (info / "INSTALLER").write_text("pip")
    time.sleep(0.03)
    (info / "RECORD").write_text(f"{name}/__init__.py,,\\n{info.name}/INSTALLER,,\\n{info.name}/RECORD,,\\n")
busy.unlink(missing_ok=True)
"""


@pytest.fixture
def slow(tmp_path):
    """A folder where set_up() runs with a slow pip, and how to start it."""
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "pip.py").write_text(PIP)
    (tmp_path / "lock.txt").write_text("\n".join(f"{name}==1.0" for name in NAMES))
    command = [sys.executable, str(tmp_path / "driver.py"), str(ROOT), str(tmp_path)]

    def start():
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    return tmp_path, start


@pytest.mark.parametrize("how", ["ctrl-c", "kill -9"])
def test_a_set_up_that_is_interrupted_anywhere_goes_on(slow, how):
    folder, start = slow
    for moment in range(10):
        process = start()
        time.sleep(0.1 * moment)
        if how == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everything that runs in front gets it
            process.communicate(timeout=60)
            (folder / "busy").unlink(missing_ok=True)
        else:
            process.kill()  # pip lives on, and a next start must wait for it
            process.stdout.close()
            process.wait()
    said, _ = start().communicate(timeout=60)
    assert said.strip().endswith("bin/python"), said
    assert packages.installed(folder / ".venv") == {"torch": "1.0", "alpha": "1.0", "beta": "1.0", "pip": "1"}


def test_two_first_starts_at_once_take_turns(slow):
    folder, start = slow
    both = [start(), start()]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("another start is setting up" in text for text in said) == 1
    assert (folder / "calls").read_text() == "x", "only the first had something to install"


def wheel(folder: Path, name: str) -> str:
    """A wheel of one module; returns the line of a lock file for it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": b"",
        f"{name}/inner/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digest = {
        path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for path, data in files.items()
    }
    record = "".join(f"{path},sha256={digest[path].decode()},{len(data)}\n" for path, data in files.items())
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(inside, data)
    return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A folder with wheels, a lock file and a `.venv` that set_up() filled from them with the real pip."""
    folder = tmp_path_factory.mktemp("complete")
    (folder / "lock.txt").write_text("".join(wheel(folder, name) for name in NAMES))
    with pytest.MonkeyPatch.context() as patch:
        move(folder, patch)
        environment.make_venv()
        shutil.copytree(environment.VENV, folder / "empty", symlinks=True)
        environment.set_up()
    return folder


@pytest.fixture
def copy(complete, tmp_path, monkeypatch):
    """A copy of that folder to break, with set_up() pointed at it."""
    folder = tmp_path / "copy"
    shutil.copytree(complete, folder, symlinks=True, copy_function=link)
    move(folder, monkeypatch)
    # making one takes seconds, copying one does not
    empty, venv = folder / "empty", folder / ".venv"
    monkeypatch.setattr(environment, "create_venv", lambda **_: shutil.copytree(empty, venv, symlinks=True))
    return folder


def link(source, target):
    """Copy by a second name, which is quicker: nothing here is written in place."""
    os.link(source, target, follow_symlinks=False)


def move(folder, patch):
    """Let set_up() work in another folder, with no package index but the wheels there."""
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_FIND_LINKS", str(folder))
    patch.setenv("PIP_NO_INDEX", "1")
    for name, path in (("VENV", ".venv"), ("HOST", ".host"), ("LOGS", "logs")):
        patch.setattr(environment, name, folder / path)
    for name in ("HOST_LOCK", "DEV_LOCK", "TORCH_LOCK", "TORCH_CPU_LOCK"):
        patch.setattr(environment, name, folder / "lock.txt")
    patch.setattr(environment, "reachable", lambda _url: False)
    patch.setattr(environment, "repair_extensions", lambda: None)


def site(folder):
    """The folder of packages."""
    return next((folder / ".venv").glob("lib/python*/site-packages"))


def cut_record(folder):
    record = site(folder) / "alpha-1.0.dist-info" / "RECORD"
    replace(record, "".join(line for line in record.read_text().splitlines(True) if "INSTALLER" not in line))


def replace(path, text):
    path.unlink()
    path.write_text(text)


def dangle(folder):
    for path in (folder / ".venv/bin").glob("python*"):
        path.unlink()
        path.symlink_to("/no/such/python")


DAMAGE = {
    "nothing": lambda _folder: None,
    "metadata alone": lambda folder: (cut_record(folder), (site(folder) / "alpha-1.0.dist-info/INSTALLER").unlink()),
    "record not written": cut_record,
    "no record": lambda folder: (site(folder) / "alpha-1.0.dist-info/RECORD").unlink(),
    "a folder gone": lambda folder: shutil.rmtree(site(folder) / "alpha/inner"),
    "a package gone": lambda folder: shutil.rmtree(site(folder) / "torch"),
    "put aside by pip": lambda folder: (site(folder) / "alpha-1.0.dist-info").rename(
        site(folder) / "~lpha-1.0.dist-info"
    ),
    "pip gone": lambda folder: shutil.rmtree(site(folder) / "pip"),
    "a dangling python": dangle,
    "no python": lambda folder: shutil.rmtree(folder / ".venv/bin"),
    "no configuration": lambda folder: (folder / ".venv/pyvenv.cfg").unlink(),
    "another python": lambda folder: replace(folder / ".venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.9.1\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_environment_mends_itself(copy, damage):
    DAMAGE[damage](copy)
    python = environment.set_up()
    assert {"torch", "alpha", "beta", "pip"} <= set(packages.installed(copy / ".venv"))
    subprocess.run([str(python), "-c", "import torch.inner, alpha.inner, beta.inner, pip"], check=True)
    assert not list(site(copy).glob("~*"))


def test_an_environment_behind_a_link_is_never_changed(copy, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(copy / ".venv")
    monkeypatch.setattr(environment, "VENV", link)
    environment.set_up()
    shutil.rmtree(site(copy) / "alpha")
    with pytest.raises(Trouble, match="is a link to another place, which lacks alpha"):
        environment.set_up()


def test_a_file_with_another_checksum_is_not_installed(copy):
    shutil.rmtree(site(copy) / "alpha")
    lock = copy / "lock.txt"
    text = lock.read_text()
    at = text.index("sha256:", text.index("alpha")) + len("sha256:")
    replace(lock, text[:at] + "0" * 64 + text[at + 64 :])
    with pytest.raises(Trouble, match="not the locked file"):
        environment.set_up()
    assert "alpha" not in packages.installed(copy / ".venv")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_has_an_exact_version_and_checksums(lock):
    text = lock.read_text()
    assert not re.search(r"^\s*-(?!-hash)", text, re.MULTILINE), "an option inside a lock"
    for block in re.split(r"\n(?=[A-Za-z])", text):
        if re.match(r"[A-Za-z]", block):
            assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block), block.splitlines()[0]
    for python in PYTHONS:
        assert locks.pins(lock, python), python


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_the_locks_hold_what_the_pack_asks_for(python):
    pins = environment.wanted(locks.HOST_LOCK, python=python)
    asked = {
        locks.normalised(line) for line in (ROOT / "requirements.txt").read_text().split("\n") if line[:1].isalpha()
    }
    assert asked | {"torch", "torchvision", "torchaudio", "comfyui-frontend-package", "av"} <= set(pins)
    assert not set(pins) & set(locks.pins(locks.DEV_LOCK, python)), "a package in two locks"


@pytest.mark.parametrize(
    ("marker", "python", "answer"),
    [
        ("", (3, 10), True),
        ("python_full_version < '3.11'", (3, 10), True),
        ("python_full_version < '3.11'", (3, 11), False),
        ("python_full_version == '3.11.*'", (3, 11), True),
        ("python_full_version >= '3.11' and sys_platform == 'nowhere'", (3, 12), False),
        ("(platform_machine == 'x' or python_version >= '3.12') and sys_platform != 'nowhere'", (3, 12), True),
    ],
)
def test_markers(marker, python, answer):
    assert locks.applies(marker, python) is answer


@pytest.mark.parametrize(
    "marker", ["os_name == 'nt'", "python_version", "__import__('os') == 'x'", "python_version in '3'"]
)
def test_unknown_markers_are_refused(marker):
    with pytest.raises(ValueError, match="lock file"):
        locks.applies(marker, (3, 11))


def test_no_text_of_the_pack_advises_what_would_reinstall_the_hosts_packages():
    advice = re.compile(r"force-reinstall|pip install (--upgrade|-U|torch|transformers)\b")
    files = [path for part in ("models", "nodes", "tools", "web", "workflows") for path in (ROOT / part).rglob("*")]
    texts = [path for path in (*files, ROOT / "README.md") if path.suffix in (".py", ".md", ".json", ".js")]
    assert len(texts) > 200
    assert [path.name for path in texts if advice.search(path.read_text(encoding="utf-8"))] == []
