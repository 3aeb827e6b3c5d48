"""What this machine is and allows: graphics cards, disk, network, system packages."""

import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from .terminal import DiskFull, Trouble, last_line, say


def has_nvidia() -> bool:
    """Whether an NVIDIA GPU with a driver is here."""
    if Path("/proc/driver/nvidia/version").exists():
        return True
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return False
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, errors="replace", check=False)
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


def system_package(package: str, purpose: str, *, allowed: bool) -> None:
    """Have a system package installed: by apt-get where that was asked for with --apt, else Trouble that says how."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not (allowed and is_root and shutil.which("apt-get")):
        remedy = f"sudo apt install {package}" if shutil.which("apt-get") else f"install {package}"
        offer = ", or as root add --apt to have it done" if shutil.which("apt-get") and not allowed else ""
        raise Trouble(f"{purpose} needs the system package {package}: {remedy}{offer}, then start again.")
    say(f"apt-get installs {package}: {purpose} needs it")
    apt_install(package)


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
