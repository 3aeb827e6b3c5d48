"""ComfyUI as a library in this process, without its server: for unit tests and benchmarks."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def host_folder() -> Path | None:
    """ComfyUI's folder: SPACETIME_COMFYUI, else the one that run.py fetched, else the one around custom_nodes."""
    given = os.environ.get("SPACETIME_COMFYUI")
    candidates = [Path(given)] if given else [ROOT / ".host" / "ComfyUI", ROOT.parent.parent]
    return next((folder for folder in candidates if (folder / "comfy" / "samplers.py").exists()), None)


def load_host(*options: str, cpu: bool = True) -> bool:
    """Make `comfy`, `comfy_api`, `comfy_extras` and `nodes` importable; False when ComfyUI is not there.

    ComfyUI reads its settings from the command line when it is first imported, so that is where `--cpu` and other
    options are put.
    """
    if "comfy.samplers" in sys.modules:
        return True
    folder = host_folder()
    if folder is None:
        return False
    sys.path.insert(0, str(folder))
    given, sys.argv = sys.argv, ["main.py", "--disable-all-custom-nodes", *(["--cpu"] if cpu else []), *options]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.samplers
    finally:
        sys.argv = given
    return True
