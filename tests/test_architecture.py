"""The layout holds: import directions, small functions and files, public functions with types and docstrings."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FUNCTION = 60
MAX_FILE = 300
HOST_MODULES = set(
    """
    comfy comfy_api comfy_config comfy_execution comfy_extras execution folder_paths latent_preview node_helpers nodes
    server
    """.split()
)
# what a node file may use of the host without going through nodes/host
NODE_API = {"comfy_api"}
MODELS_MAY_IMPORT = {"PIL", "av", "einops", "numpy", "safetensors", "torch", "cv2", "ray", "xformers"}
MODELS_MAY_IMPORT |= {"wandb"}  # a log that some users keep; only where it is asked for
# inside models, from the bottom up; a room may import its own level's and those below
LEVELS = {
    "remedies": 0,
    "components": 0,
    "extras": 0,
    "files": 0,
    "partials": 0,
    "headers": 0,
    "lora": 1,
    "building": 0,
    "embedded": 0,
    "patches": 0,
    "flow": 0,
    "geometry": 0,
    "streams": 0,
    "media": 0,
    "nested": 0,
    "pixels": 0,
    "precision": 0,
    "trained_on": 0,
    "transfer": 0,
    "solvers": 1,
    "recommended": 1,
    "transformer": 1,
    "published": 1,
    "vae": 1,
    "text": 1,
    "toyworld": 1,
    "checkpoints": 2,
    "captioner": 2,
    "schedules": 2,
    "guidance": 2,
    "tasks": 2,
    "clips": 3,
    "generate": 3,
    "rolling": 3,
    "endless": 4,
    "training": 4,
    "cluster": 5,
    "metrics": 3,
}
# these know callables and tensors, never a network
# what the launcher may use of models/ before anything is installed
BEFORE_INSTALLING = {("models", "files"), ("models", "partials"), ("models", "remedies")}
NO_NETWORKS = {"schedules", "solvers", "guidance", "tasks", "rolling"}
NETWORKS = {"transformer", "vae", "text", "checkpoints"}
# methods whose meaning a framework defines
FRAMEWORK = {"forward", "define_schema", "execute", "fingerprint_inputs", "validate_inputs", "check_lazy_status"}
# models/files.py does it, with limits and whole or not at all
BY_HAND = set(
    """
    json.load json.loads os.replace os.rename safe_open save_file load_file torch.load torch.save
    safetensors.torch.load_file np.load eval exec
    """.split()
)
BY_HAND_ALLOWED = {
    "models/files.py": {"json.loads", "safe_open", "save_file"},
    # lines between two processes of the pack itself; the worker is a script that imports nothing of it
    "models/text/engine_llama.py": {"json.loads"},
    "models/text/llama_worker.py": {"json.loads"},
    "nodes/host/processes/cluster.py": {"np.load"},  # frames that its own process wrote, never pickled
    "tools/bench/tiny_models.py": {"save_file"},  # as other programs write them
    "models/published/files.py": {"torch.load"},  # weights only
    "tools/bench/parity.py": {"save_file"},  # as other programs write them
    "models/metrics/perceptual.py": {"torch.load"},  # of an installed package, its weights only
}
# methods of Path that read or write, beside their uses that are none of that
METHODS_BY_HAND = {"read_text", "write_text", "write_bytes", "rename", "replace"}
METHODS_ALLOWED = {
    "models/files.py": {"write_bytes", "replace"},
    "tools/comfyui.py": {"write_bytes"},  # thousands of files, in a folder that takes its name when it is whole
}
# path or path:function -> why it may be longer
LONGER: dict[str, str] = {}


def python_files(folder: str) -> list[Path]:
    """Every Python file of a folder of the checkout."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


OURS = [*python_files("models"), *python_files("nodes"), *python_files("tools"), ROOT / "run.py", ROOT / "__init__.py"]
MODELS = python_files("models")
NODES = python_files("nodes")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(module: str) -> str:
    """The folder of a module; a module outside of rooms is one itself."""
    return module.rpartition(".")[0] if module.count(".") > 1 else module


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in OURS[:-2]}


def imports(path: Path) -> list[tuple[int, str]]:
    """Every import of a file as (level, module): level 0 is absolute, 1 is the file's own package, and so on."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.level, node.module))
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, alias.name) for alias in node.names]
    return found


def inside_pack(path: Path, level: int, module: str) -> tuple[str, ...]:
    """The place inside the pack that a relative import leads to."""
    package = path.parent.relative_to(ROOT).parts
    return (*package[: len(package) - level + 1], *module.split("."))


def every(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """A rule for one file made a test of all of them, which names each file that breaks it."""

    def decorate(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            broken = []
            for path in paths:
                try:
                    rule(path)
                except AssertionError as fault:  # noqa: PERF203 - every file is looked at
                    broken.append(f"{name_of(path)}: {str(fault).splitlines()[0]}")
            assert not broken, "\n".join(broken)

        test.__doc__ = rule.__doc__
        return test

    return decorate


def imported(path: Path) -> set[str]:
    """The files of ours that a file imports, also inside of functions, as names of modules."""
    package, found = path.parent.relative_to(ROOT).parts, set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            for alias in node.names:
                own = ".".join(filter(None, (*base, alias.name)))
                found |= {own if own in MODULES else ".".join(filter(None, base))} & MODULES.keys()
    return found


def circle(graph: dict[str, set[str]]) -> str:
    """A circle of a graph in one line, or nothing."""
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return " -> ".join(error.args[1][::-1])
    return ""


def test_no_file_imports_itself_by_a_circle():
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    assert not circle(graph)


def test_no_room_imports_itself_by_a_circle():
    """Neither do folders; a folder may hold rooms, and what stands above them uses them."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        room = room_of(name)
        for other in map(room_of, imported(path)):
            if not f"{other}.".startswith(f"{room}.") and not f"{room}.".startswith(f"{other}."):
                graph.setdefault(room, set()).add(other)
    assert not circle(graph)


# what stands in one place, as a pattern, and that place
FACTS = {
    "frames of a latent": (r"\bTIME = \d|% TIME [!=]=|1 \+ TIME \*|// TIME \* TIME", "models/geometry.py"),
    "clip sizes in words": (r"x\(\\d\+\)|\.split\(\"x\"\)|0,5\}\)x", "models/geometry.py"),
    "where the weights lie": (r"\"spacetime-toy[\w-]*(\.safetensors)?\"", "models/embedded.py"),
    "files under another name first": (r"os\.replace\(|os\.fsync\(", "models/files.py"),
    "names of runs": (r"A-Za-z0-9_-\]\{", "nodes/host/folders.py"),
    "a run that was stopped": (r"stopped after step", "models/training/run/stopping.py"),
    "frames per second where nothing tells": (r"(fps: float|FPS|default) ?= ?12\.0", "models/geometry.py"),
    "versions of our files": (r"this version reads format", "models/building.py"),
    "predictions of the DiT made estimates": (r"split_learned_variance\(dit\(", "models/generate.py"),
    "guidance by the difference": (r"cfg \* \(|scale \* \(c", "models/guidance.py"),
}


@pytest.mark.parametrize("fact", FACTS)
def test_each_fact_stands_in_one_place(fact):
    pattern, place = FACTS[fact]
    found = {name_of(path) for path in (*MODELS, *NODES) if re.search(pattern, path.read_text("utf-8"), re.MULTILINE)}
    assert found <= {place}


def test_the_version_is_that_of_the_package():
    """pyproject.toml is not there in an installed pack, so models/ says it too."""
    said = re.search(r'^VERSION = "(.+)"', (ROOT / "models" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    packaged = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert said
    assert packaged
    assert said[1] == packaged[1]


@every(MODELS)
def test_models_import_neither_the_host_nor_the_nodes(path):
    for level, module in imports(path):
        if level:
            assert inside_pack(path, level, module)[0] == "models", f"{module} lies outside of models/"
        else:
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names | MODELS_MAY_IMPORT, f"models/ may not import {module}"


@every(MODELS)
def test_models_import_only_downwards(path):
    own = path.relative_to(ROOT / "models").with_suffix("").parts[0]
    if own == "__init__":
        return
    assert own in LEVELS, f"models/{own} has no level yet: add it to LEVELS"
    for level, module in imports(path):
        target = inside_pack(path, level, module) if level else ()
        if len(target) > 1 and target[1] in LEVELS:
            assert LEVELS[target[1]] <= LEVELS[own], f"models/{own} may not import models/{target[1]}"
            assert own not in NO_NETWORKS or target[1] not in NETWORKS, f"models/{own} may not know {target[1]}"


@every(NODES)
def test_only_nodes_host_touches_the_host(path):
    if path.relative_to(ROOT / "nodes").parts[0] in ("host", "host.py"):
        return
    for level, module in imports(path):
        top = module.split(".")[0]
        assert level or top not in HOST_MODULES - NODE_API, f"{module} belongs behind nodes/host"


@every(NODES)
def test_nodes_import_nothing_of_the_tools(path):
    for level, module in imports(path):
        assert not level or inside_pack(path, level, module)[0] in ("nodes", "models")


@every(python_files("tools"))
def test_the_launcher_needs_only_the_standard_library(path):
    if {"bench", "card", "pictures"} & set(path.parts) or path.name in ("in_process.py", "locales.py"):
        return  # these run in the environment that the launcher has made, or in one with torch
    for level, module in imports(path):
        if level:
            place = inside_pack(path, level, module)
            assert place[0] == "tools" or place in BEFORE_INSTALLING, (
                f"{module} may need more than the standard library"
            )
        else:
            assert module.split(".")[0] in sys.stdlib_module_names, f"{module} is not in the standard library"


def test_the_launcher_starts_without_any_package():
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tools.pack import load; load(); "
    code += "from comfyui_spacetime.tools import commands; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "False", done.stderr


@every(OURS)
def test_files_are_read_and_written_in_one_place(path):
    """JSON has limits, writing is whole or not at all: models/files.py alone does it by hand."""
    name, tree = name_of(path), ast.parse(path.read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    by_hand = {call for call in called if call in BY_HAND or (call.startswith("pickle.") and call != "pickle.dumps")}
    assert not by_hand - BY_HAND_ALLOWED.get(name, set()), f"{name} reads or writes by hand: see models/files.py"


def methods_by_hand(tree: ast.Module) -> set[str]:
    """Calls of Path's methods that read or write a file. `replace` of a text takes two arguments, of a Path one; logs
    of other programs, in which what is no text is shown as such (`errors`), are read as they are."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS_BY_HAND:
            named = {keyword.arg for keyword in node.keywords}
            if "errors" not in named and (node.func.attr != "replace" or (len(node.args) == 1 and not named)):
                found.add(node.func.attr)
    return found


@every(OURS)
def test_no_path_is_read_renamed_or_written_by_hand(path):
    by_hand = methods_by_hand(tree_of(path))
    assert not by_hand - METHODS_ALLOWED.get(name_of(path), set()), f"{sorted(by_hand)}: see models/files.py"


def test_reading_and_writing_by_hand_is_found():
    """The rule above looks at the calls that matter, and at no others."""
    for line in (
        "p.write_text('a')",
        "p.replace(q)",
        "Path('a').rename(b)",
        "(a / 'b').read_text()",
        "x.write_bytes(b)",
    ):
        assert methods_by_hand(ast.parse(line)), line
    for line in ("'a'.replace('b', 'c')", "replace(p, a=1)", "when.replace(tzinfo=None)", "write_text(p, 'a')"):
        assert not methods_by_hand(ast.parse(line)), line


@every(OURS)
def test_functions_and_files_stay_small(path):
    text = path.read_text(encoding="utf-8")
    name = name_of(path)
    if name not in LONGER:
        assert len(text.splitlines()) <= MAX_FILE, f"{name} has {len(text.splitlines())} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and f"{name}:{node.name}" not in LONGER:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{name}:{node.lineno} {node.name} has {length} lines"


@every([path for path in (*OURS, *python_files("tests")) if path != Path(__file__)])
def test_the_formatter_has_the_last_word(path):
    """A table of words is a text that is split, a long call has a line for each argument: nothing is left to taste."""
    assert not re.search(r"# *fmt: *(skip|off)", path.read_text(encoding="utf-8"))


@every([*MODELS, *NODES])
def test_public_functions_have_types_and_docstrings(path):
    tree = tree_of(path)
    for owner in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            where = f"{name_of(path)}:{node.lineno} {node.name}"
            assert node.returns is not None, f"{where} says not what it returns"
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
            assert not bare, f"{where} has arguments without a type: {bare}"
            assert node.name in FRAMEWORK or ast.get_docstring(node), f"{where} has no docstring"


@every(NODES)
def test_only_one_module_reads_and_makes_latents(path):
    """Whoever takes a LATENT apart by hand loses what else it carries."""
    if name_of(path) == "nodes/host/latent.py":
        return
    tree = tree_of(path)
    keys = [node.slice for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    keys += [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    found = {key.value for key in keys if isinstance(key, ast.Constant)} & {"samples", "noise_mask"}
    assert not found, f"{sorted(found)} belong to nodes/host/latent.py"
