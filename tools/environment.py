"""The virtual environment `.venv`: made once, filled from the lock files, mended where it is broken."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ..models.files import read_text, write_text
from . import locks, machine, packages
from .locks import DEV_LOCK, HOST_LOCK, ROOT, TORCH_CPU_LOCK, TORCH_LOCK
from .machine import check_disk, has_nvidia, reachable
from .terminal import DiskFull, Trouble, last_line, say, step
from .turns import handed_on, one_at_a_time

VENV = ROOT / ".venv"
HOST = ROOT / ".host"
LOGS = HOST / "logs"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# nothing but the files whose sha256 the lock names, and no source package, whose set-up would run as it is built
LOCKED = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectionError|Name or service not known|Temporary failure in name resolution|"
    r"Network is unreachable|Connection refused|ConnectTimeout|ReadTimeout|ProxyError|Max retries exceeded"
)
# printed by an interpreter that belongs to a virtual environment
PROBE = "import sys; sys.prefix != sys.base_prefix and print(*sys.version_info[:2])"


def venv_python() -> Path:
    """The interpreter inside `.venv`."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_set_up() -> bool:
    """Whether everything that running the pack needs is installed."""
    python = running_version()
    return python is not None and not packages.lacking(VENV, wanted(HOST_LOCK, python=python))


def set_up(*, dev: bool = False, apt: bool = False) -> Path:
    """Make `.venv` complete and return its interpreter. A second call only looks.

    It can be interrupted at any moment and started again. Two at once take turns.
    """
    with one_at_a_time(HOST / "setup.lock", "setting up"):
        python = make_venv(apt=apt)
        files = [HOST_LOCK, DEV_LOCK] if dev else [HOST_LOCK]
        missing = packages.lacking(VENV, wanted(*files, python=python))
        if missing and VENV.is_symlink():
            raise Trouble(f"{VENV} is a link to another place, which lacks {listed(missing)}: set up there.")
        if missing:
            fill(files, missing, python)
        if missing or not (VENV / "extensions-checked").exists():
            repair_extensions()
            (VENV / "extensions-checked").touch()
    return venv_python()


def wanted(*files: Path, python: locks.Version) -> dict[str, str]:
    """The packages of lock files, and torch without what only its build for NVIDIA's cards brings."""
    found = {name: pin for file in files for name, pin in locks.pins(file, python).items()}
    return found | {"torch": locks.pins(TORCH_LOCK, python)["torch"]}


def fill(files: list[Path], missing: dict[str, str], python: locks.Version) -> None:
    """Install what is missing."""
    check_disk(VENV, gigabytes=7 if has_nvidia() and "torch" in missing else 2.5 if "torch" in missing else 0.5)
    (VENV / "extensions-checked").unlink(missing_ok=True)
    packages.forget(VENV, set(missing))
    if "torch" in missing:
        install_torch()
    with step(f"installing {len(missing)} packages"):
        pip("install", *LOCKED, *(part for file in files for part in ("-r", str(file))))
    still = packages.lacking(VENV, wanted(*files, python=python))
    if still:
        raise Trouble(f"pip finished but these packages are not there: {listed(still)}. Delete .venv and start again.")


def make_venv(*, apt: bool = False) -> locks.Version:
    """Make sure that `.venv` works, and return its Python's version. A half-made or broken one is made anew."""
    python = running_version()
    if python is None:
        if VENV.is_symlink():
            raise Trouble(
                f"{VENV} is a link to {VENV.resolve()}, where no Python runs: remove the link, then start again."
            )
        if VENV.exists():
            say("the Python in .venv does not run (half-made, or the system's was replaced): making it anew")
            shutil.rmtree(VENV)
        create_venv(apt=apt)
        python = running_version()
        if python is None:
            raise Trouble(f"The Python of the new .venv does not run: see what {venv_python()} says.")
    if "pip" not in packages.installed(VENV) and not VENV.is_symlink():
        packages.forget(VENV, {"pip"})
        with step("mending pip"):
            run(
                [str(venv_python()), "-m", "ensurepip", "--default-pip"],
                "Mending pip failed: delete .venv, start again",
            )
    return python


def running_version() -> locks.Version | None:
    """Python's version in `.venv`, from running it; None when it does not run, or is not the one it was made with."""
    config = VENV / "pyvenv.cfg"
    try:
        done = subprocess.run([str(venv_python()), "-c", PROBE], capture_output=True, text=True, check=False)
        made = re.search(r"^version\w*\s*=\s*(\d+)\.(\d+)", read_text(config), re.MULTILINE)
    except (OSError, ValueError):
        return None
    version = tuple(int(part) for part in done.stdout.split())
    return version if version and made and version == (int(made[1]), int(made[2])) else None


def create_venv(*, apt: bool) -> None:
    """Create `.venv` with the Python that runs this."""
    check_disk(ROOT, gigabytes=0.2)
    command = [sys.executable, "-m", "venv", str(VENV)]
    with step("making .venv"):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **handed_on())
    if done.returncode and "ensurepip" in done.stdout + done.stderr:
        shutil.rmtree(VENV, ignore_errors=True)
        machine.system_package(f"python3.{sys.version_info.minor}-venv", "Python's module venv", allowed=apt)
        run(command, "Making .venv failed")
    elif done.returncode:
        raise Trouble(f"Making .venv failed: {last_line(done.stderr or done.stdout)}")


def run(command: list[str], failed: str) -> None:
    """Run a step quietly; when it fails, Trouble with its last line."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **handed_on())
    if done.returncode:
        raise Trouble(f"{failed}: {last_line(done.stderr or done.stdout)}")


def install_torch() -> None:
    """Install torch: the CPU build where no NVIDIA GPU is found and one can be had, else the ordinary one.

    The CPU build has an index of its own, which is asked for this one file. Where it cannot be reached, pip may have
    been given a folder that holds the file; the hash is the same.
    """
    if sys.platform == "linux" and not has_nvidia():
        source = ["--index-url", CPU_INDEX] if reachable(f"{CPU_INDEX}/torch/") else ["--no-index"]
        try:
            with step("installing torch (CPU build, 200 MB)"):
                pip("install", *LOCKED, *source, "-r", str(TORCH_CPU_LOCK))
        except DiskFull:
            raise
        except Trouble:
            say("no CPU build within reach, taking the ordinary one")
            check_disk(VENV, gigabytes=7)
        else:
            return
    with step("installing torch (several GB where it comes with CUDA)"):
        pip("install", *LOCKED, "-r", str(TORCH_LOCK))


def pip_command() -> list[str]:
    """How pip is called."""
    return [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "--no-input"]


def pip(*arguments: str) -> None:
    """Run pip in `.venv`; its output goes to a log, and its failure becomes one sentence."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / "pip.log"
    with log.open("w", encoding="utf-8") as out:
        command = [*pip_command(), *arguments]
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False, **handed_on())
    if done.returncode:
        raise pips_trouble(log.read_text(encoding="utf-8", errors="replace"), log)


def pips_trouble(text: str, log: Path) -> Trouble:
    """What pip's output means."""
    if "No space left" in text or "Errno 28" in text:
        return DiskFull(f"The disk of {VENV} is full: free some space, then start again.")
    if "DO NOT MATCH THE HASHES" in text:
        return Trouble(
            f"What was downloaded is not the locked file (its sha256 differs), and nothing of it was installed: clear "
            f"pip's cache or check the package index, then start again (everything pip said: {log})."
        )
    if NO_NETWORK.search(text):
        return Trouble("No network: the package index could not be reached. Check the connection, then start again.")
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    return Trouble(f"pip failed: {errors[-1] if errors else last_line(text)} (everything it said: {log})")


def listed(names: dict[str, str], most: int = 8) -> str:
    """Names in a sentence."""
    shown = sorted(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def repair_extensions() -> None:
    """Make torchvision and torchaudio importable next to a CPU torch.

    Their Linux wheels hold CUDA extensions that cannot load then. ComfyUI imports both but needs only their Python
    parts, so torchvision gets the two operator schemas that its extension would have declared, and torchaudio loses
    the extension that raises, upon which it works without.
    """
    probe = "import torch, sys; sys.exit(0 if torch.version.cuda is None else 3)"
    if sys.platform != "linux" or run_quietly(probe) != 0:
        return
    site = next(VENV.glob("lib/python*/site-packages"))
    if run_quietly("import torchvision"):
        extension = site / "torchvision" / "extension.py"
        text = read_text(extension)
        if "cpu-schema" not in text:
            write_text(extension, text + TORCHVISION_SCHEMAS)
    if run_quietly("import torchaudio"):
        for library in (site / "torchaudio" / "lib").glob("*.so"):
            library.unlink()
    for name in ("torchvision", "torchaudio"):
        if run_quietly(f"import {name}"):
            raise Trouble(f"{name} does not load next to this torch. Delete .venv and start again.")


TORCHVISION_SCHEMAS = """

# cpu-schema: the CUDA-built _C.so did not load
if not _has_ops():
    for _n in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_n}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def run_quietly(code: str) -> int:
    """Exit status of a line of Python in `.venv`."""
    return subprocess.run([str(venv_python()), "-c", code], capture_output=True, check=False).returncode
