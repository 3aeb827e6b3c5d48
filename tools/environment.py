"""The virtual environment `.venv`: made once, filled from the lock files, checked in milliseconds on later starts."""

import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from .terminal import DiskFull, Trouble, say, step

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOGS = ROOT / ".host" / "logs"
HOST_LOCK = ROOT / "requirements-lock.txt"
DEV_LOCK = ROOT / "requirements-dev-lock.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectionError|Name or service not known|Temporary failure in name resolution|"
    r"Network is unreachable|Connection refused|ConnectTimeout|ReadTimeout|ProxyError|Max retries exceeded"
)


def venv_python() -> Path:
    """The interpreter inside `.venv`."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_set_up() -> bool:
    """Whether everything that running the pack needs is installed."""
    return venv_python().exists() and not lacking(pins(HOST_LOCK))


def set_up(*, dev: bool = False) -> Path:
    """Make `.venv` complete and return its interpreter. A second call only compares the lists of packages."""
    make_venv()
    locks = [HOST_LOCK, DEV_LOCK] if dev else [HOST_LOCK]
    wanted = {name: version for lock in locks for name, version in pins(lock).items()}
    missing = lacking(wanted)
    if missing:
        check_disk(VENV, gigabytes=7 if has_nvidia() and "torch" in missing else 2.5 if "torch" in missing else 0.5)
        if "torch" in missing:
            install_torch(wanted["torch"])
        with step(f"installing {len(missing)} packages"):
            pip("install", "--no-deps", *(part for lock in locks for part in ("-r", str(lock))))
        still = lacking(wanted)
        if still:
            raise Trouble(f"pip finished but these packages are not there: {', '.join(sorted(still))}.")
    # a file that only repair_extensions writes, so an interrupted first setup is taken up where it stopped
    if not (VENV / "extensions-checked").exists() or missing:
        repair_extensions()
        (VENV / "extensions-checked").touch()
    return venv_python()


def make_venv() -> None:
    """Create `.venv` with the Python that runs this, unless it is there."""
    if venv_python().exists():
        return
    check_disk(ROOT, gigabytes=0.2)
    with step("making .venv"):
        done = subprocess.run(
            [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode and "ensurepip" in done.stdout + done.stderr and is_root_with_apt():
            apt_install(f"python3.{sys.version_info.minor}-venv")
            done = subprocess.run(
                [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
            )
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        if "ensurepip" in done.stdout + done.stderr:
            raise Trouble(
                "Python's venv module is incomplete here: install the package python3-venv, then start again."
            )
        raise Trouble(f"Making .venv failed: {last_line(done.stderr or done.stdout)}")


def install_torch(version: str) -> None:
    """Install torch: the CPU build where no NVIDIA GPU is found and one can be had, else the ordinary one."""
    if sys.platform == "linux" and not has_nvidia():
        extra = ["--extra-index-url", CPU_INDEX] if reachable(f"{CPU_INDEX}/torch/") else []
        try:
            with step("installing torch (CPU build, 200 MB)"):
                pip("install", f"torch=={version}+cpu", *extra)
        except DiskFull:
            raise
        except Trouble:
            say("no CPU build within reach, taking the ordinary one")
            check_disk(VENV, gigabytes=7)
        else:
            return
    with step("installing torch (several GB where it comes with CUDA)"):
        pip("install", f"torch=={version}")


def pins(lock: Path) -> dict[str, str]:
    """The exact versions of a lock file that apply to the Python in use, by normalised name."""
    found: dict[str, str] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        requirement, _, marker = line.partition(";")
        if "==" not in requirement or requirement.lstrip().startswith("#") or not applies(marker.strip()):
            continue
        name, _, version = requirement.strip().partition("==")
        found[normalised(name)] = version
    return found


def applies(marker: str) -> bool:
    """Whether one of the few markers that our lock files use holds here."""
    answers = {
        "": True,
        'python_version < "3.11"': python_version() < (3, 11),
        'python_version >= "3.11"': python_version() >= (3, 11),
        'sys_platform == "win32"': sys.platform == "win32",
    }
    if marker not in answers:
        raise ValueError(f"the lock files use a marker that tools/environment.py does not know: {marker}")
    return answers[marker]


def python_version() -> tuple[int, ...]:
    """Version of the Python in `.venv` (made by an earlier start, perhaps by another Python), else of this one."""
    config = VENV / "pyvenv.cfg"
    match = re.search(r"^version\s*=\s*(\d+)\.(\d+)", config.read_text(), re.MULTILINE) if config.exists() else None
    return (int(match[1]), int(match[2])) if match else sys.version_info[:2]


def lacking(wanted: dict[str, str]) -> dict[str, str]:
    """The pins that `.venv` does not meet, read from the metadata folders without starting Python."""
    have = installed()
    return {name: version for name, version in wanted.items() if have.get(name, "").split("+")[0] != version}


def installed() -> dict[str, str]:
    """Packages in `.venv` by normalised name. pip writes INSTALLER last, so a half-written package does not count."""
    site_packages = [VENV / "Lib/site-packages", *VENV.glob("lib/python*/site-packages")]
    found = {}
    for folder in site_packages:
        for info in folder.glob("*.dist-info"):
            name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
            if (info / "INSTALLER").exists():
                found[normalised(name)] = version
    return found


def normalised(name: str) -> str:
    """A package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pip(*arguments: str) -> None:
    """Run pip in `.venv`; its output goes to a log, and its failure becomes one sentence."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / "pip.log"
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False)
    if not done.returncode:
        return
    text = log.read_text(encoding="utf-8", errors="replace")
    if "No space left" in text or "Errno 28" in text:
        raise DiskFull(f"The disk of {VENV} is full: free some space, then start again.")
    if NO_NETWORK.search(text):
        raise Trouble("No network: the package index could not be reached. Check the connection, then start again.")
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    raise Trouble(f"pip failed: {errors[-1] if errors else last_line(text)} (everything it said: {log})")


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
        text = extension.read_text(encoding="utf-8")
        if "cpu-schema" not in text:
            extension.write_text(text + TORCHVISION_SCHEMAS, encoding="utf-8")
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


def has_nvidia() -> bool:
    """Whether an NVIDIA GPU with a driver is here."""
    if Path("/proc/driver/nvidia/version").exists():
        return True
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return False
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def has_accelerator() -> bool:
    """Whether ComfyUI will find something better than the CPU: NVIDIA, AMD on Linux, or Apple's GPU."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple or has_nvidia() or Path("/dev/kfd").exists()


def reachable(url: str, seconds: float = 4) -> bool:
    """Whether an address answers within a few seconds."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False


def check_disk(folder: Path, gigabytes: float) -> None:
    """Refuse to begin what the disk cannot hold."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise DiskFull(f"The disk of {existing} has {free:.1f} GB left, but setting up needs {gigabytes:g} GB.")


def is_root_with_apt() -> bool:
    """Whether missing system packages can be installed without asking anyone."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(package: str) -> None:
    """Install a system package; the package lists are fetched only when they are missing or stale."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    if subprocess.run(install, capture_output=True, env=quiet, check=False).returncode == 0:
        return
    subprocess.run(["apt-get", "update", "-qq"], capture_output=True, env=quiet, check=False)
    done = subprocess.run(install, capture_output=True, text=True, errors="replace", env=quiet, check=False)
    if done.returncode:
        raise Trouble(f"apt-get could not install {package}: {last_line(done.stderr)}")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
