"""What was found on this machine, in one screen."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from ..models.files import read_text
from . import comfyui, environment
from .environment import ROOT
from .terminal import last_line, say

FOLDER = ROOT / "models" / "weights"
WEIGHTS = FOLDER / "spacetime-toy.safetensors"
TEXT_ENCODER = FOLDER / "all-MiniLM-L6-v2" / "model.safetensors"

# runs in the environment of the ComfyUI in use; every line is "name: finding"
PROBE = r"""
import importlib.util, platform, sys
import torch

def there(name):
    return importlib.util.find_spec(name) is not None

print(f"torch: {torch.__version__}, {torch.get_num_threads()} threads")
if torch.cuda.is_available():
    free, total = torch.cuda.mem_get_info()
    print(f"device: {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free")
    print(f"dtypes: fp32, fp16{', bf16' if torch.cuda.is_bf16_supported() else ''}")
    major, minor = torch.cuda.get_device_capability()
    where, dtype, why = "the GPU", *(
        ("bf16", f"a GPU of compute {major}.{minor} multiplies it") if major >= 8 else
        ("fp16", f"a GPU of compute {major}.{minor} has no bf16") if major == 7 else
        ("fp32", f"a GPU of compute {major}.{minor} is slow in less, unless memory is short")
    )
elif torch.backends.mps.is_available():
    print("device: Apple GPU (mps)")
    print("dtypes: fp32, fp16")
    where, dtype, why = "the GPU (training on the CPU, unless --device mps)", "what ComfyUI takes", "it asks this Mac"
else:
    print(f"device: CPU ({torch.backends.cpu.get_cpu_capability()})")
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    fast = "bf16 (matrix units)" if amx else "bf16 (vector units)" if bf16 else "bf16 in software, slow"
    print(f"dtypes: fp32, {fast}")
    where = "the CPU, because torch finds no GPU"
    dtype, why = ("bf16", "this CPU multiplies it") if amx or bf16 else ("fp32", "this CPU converts bf16 in software")
print(f"chosen: {where}; the DiT in {dtype}, because {why}")
print("chosen: the VAE in fp32, because it is small and its pieces then equal the whole; loaded whole, not in part")
attention = ["sdpa"]
attention += [name for name in ("xformers", "flash_attn", "sageattention") if there(name)]
print("attention: " + ", ".join(attention))
try:
    sys.path.insert(0, sys.argv[1])
    from tools.pack import load
    load()
    from comfyui_spacetime.models.transformer import compiled, packed, tiled
    place = "cuda:0" if torch.cuda.is_available() else "cpu"
    print("chosen: dense attention by " + tiled.told(place))
    print("chosen: packed clips by " + packed.told(place))
    print("chosen: blocks are compiled " + compiled.told(place))
except ImportError as error:
    print(f"chosen: nothing for attention, because {error}")
missing = "MISSING, pip install -r requirements.txt"
libraries = ("einops", "safetensors", "av", "cv2")
print("libraries: " + ", ".join(f"{name} {'yes' if there(name) else missing}" for name in libraries))
"""


def report(path: str | None) -> int:
    """Print the findings; 1 when something that is needed is missing."""
    say(f"system: {platform.platform()}, Python {platform.python_version()}, {cpu_name()}")
    say(f"disk: {shutil.disk_usage(ROOT).free / 1e9:.0f} GB free at {ROOT}")
    if not path and not comfyui.inside_another() and not (environment.is_set_up() and comfyui.is_fetched()):
        say("not set up yet: python3 run.py setup")
        return 1
    installation = comfyui.find(path)
    whose = "our own, in .host" if installation.managed else "yours, unchanged"
    say(f"ComfyUI: {version_of(installation.tree)} at {installation.tree} ({whose})")
    done = subprocess.run(
        [str(installation.python), "-c", PROBE, str(ROOT)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **installation.environment},
    )
    say(done.stdout.strip())
    if done.returncode:
        say(f"the environment of ComfyUI is broken: {last_line(done.stderr)}")
    say(f"embedded model: {size_of(WEIGHTS)}")
    say(f"text encoder: {size_of(TEXT_ENCODER)}")
    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    say(f"Chromium (for the browser tests): {browser or 'not found'}")
    complete = done.returncode == 0 and "MISSING" not in done.stdout and WEIGHTS.exists() and TEXT_ENCODER.exists()
    say("everything is here" if complete else "something is missing, see above")
    return 0 if complete else 1


def version_of(tree: Path) -> str:
    """The version that a ComfyUI tree states."""
    file = tree / "comfyui_version.py"
    text = read_text(file) if file.exists() else ""
    return text.partition('__version__ = "')[2].partition('"')[0] or "unknown version"


def size_of(path: Path) -> str:
    """Name and size of a file, or that it is missing."""
    return f"{path.name}, {path.stat().st_size / 1e6:.1f} MB" if path.exists() else f"{path.name} is MISSING"


def cpu_name() -> str:
    """The processor as its maker calls it, where the system says so."""
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in read_text(info).splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
