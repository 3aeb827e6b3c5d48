"""Load the pack as ComfyUI does: by path, under one alias, whatever the checkout's folder is called."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALIAS = "comfyui_spacetime"

# small tensors: one thread is faster than two, and sums come out the same on every machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

if ALIAS not in sys.modules:
    spec = importlib.util.spec_from_file_location(ALIAS, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[ALIAS] = module
    spec.loader.exec_module(module)
# the folder `nodes` must not shadow ComfyUI's module of that name
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
