"""Load the pack under its alias and run one of its modules, whatever the checkout's folder is called.

`python tools/pack.py models.training dit --help` does what `python -m comfyui_spacetime.models.training dit --help`
would do if the pack were installed. It works under torchrun too.
"""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
ALIAS = "comfyui_spacetime"


def load() -> ModuleType:
    """Import the pack from its folder, as ComfyUI does, under the name `comfyui_spacetime`."""
    if ALIAS in sys.modules:
        return sys.modules[ALIAS]
    spec = importlib.util.spec_from_file_location(ALIAS, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT} holds no __init__.py, so it is not a checkout of the pack")
    module = importlib.util.module_from_spec(spec)
    sys.modules[ALIAS] = module
    spec.loader.exec_module(module)
    hide_checkout()
    return module


def hide_checkout() -> None:
    """Take the checkout off `sys.path`: its folder `nodes` must not shadow ComfyUI's module of that name."""
    hidden = {ROOT, ROOT / "tools"}
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in hidden]


def main() -> None:
    """Run the module named by the first argument with the rest as its own arguments."""
    if len(sys.argv) < 2:
        raise SystemExit("usage: python tools/pack.py MODULE [arguments], for example models.training --help")
    load()
    name = sys.argv.pop(1)
    runpy.run_module(f"{ALIAS}.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
