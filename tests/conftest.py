"""Load the pack as ComfyUI does: by path, under one alias, whatever the checkout's folder is called.

And share one real ComfyUI between all tests that need it (fixture `host`).
"""

import faulthandler
import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ALIAS = "comfyui_spacetime"
MOST_TO_END = 120  # seconds

# small tensors: one thread is faster than two, and sums come out the same on every machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

if ALIAS not in sys.modules:
    spec = importlib.util.spec_from_file_location(ALIAS, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[ALIAS] = module
    spec.loader.exec_module(module)
# the folder `nodes` must not shadow ComfyUI's module of that name
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]

if TYPE_CHECKING:
    from comfyui_spacetime.tools.client import Client, Result


CPU_TIMES = pytest.StashKey[dict[str, float]]()
# modules that take seconds of CPU time (`--cpu-times` prints how many); single tests are marked `slow`
SLOW = {
    "models": (
        "answers captioner captions clip_folders cluster damaged_models deflicker every_mode extend_far "
        "fan_out fidelity generate language_models local_models made_from media_reader media_writer perceptual probes "
        "recaption simulation solvers toyworld training training_batches training_clipping training_failures "
        "training_folder training_logs training_lora training_processes training_profiles training_workers "
        "vae_training video_metrics"
    ),
    "nodes": (
        "built_again captioning cluster core_training deflicker_nodes editing history host_objects latents lengths "
        "node_overhead other_vaes published sampling saved_runs seeing_models sound step_goals stepper stepper_edits "
        "train video_inputs what_latents_carry words"
    ),
    "gpu": "nodes_on_gpu training_on_gpu",
    "tools": (
        "bench bench_expansion bench_of_the_model bench_overhead bench_stream bench_tasks bench_training environment "
        "orphans other_hosts requirements wheel"
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fast` for a quick answer while working."""
    parser.addoption("--fast", action="store_true", help="leave out slow tests, and those of host and browser")
    parser.addoption("--cpu-times", action="store_true", help="print the CPU time of each module's tests")


def cpu_time() -> float:
    """Seconds of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep the time of each module, fixtures included."""
    before = cpu_time()
    yield
    spent = item.config.stash.setdefault(CPU_TIMES, {})
    module = item.path.relative_to(ROOT).as_posix()
    spent[module] = spent.get(module, 0.0) + cpu_time() - before


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Modules, the slowest first, and all together."""
    if config.getoption("--cpu-times"):
        spent = config.stash.get(CPU_TIMES, {})
        terminalreporter.section("CPU time in seconds")
        for module, seconds in sorted(spent.items(), key=lambda row: -row[1]):
            terminalreporter.line(f"{seconds:8.1f}  {module}")
        terminalreporter.line(f"{sum(spent.values()):8.1f}  together")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the modules that `--fast` does not wait for."""
    room, name = collection_path.parent.name, collection_path.stem.removeprefix("test_")
    slow = room in ("host", "browser", "gpu") or name in SLOW.get(room, "").split()
    return True if config.getoption("--fast") and collection_path.is_file() and slow else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out single slow tests."""
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow") is not None]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]


def pytest_collection_finish() -> None:
    """What has been imported and collected by now stays: no garbage collection need look at it again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let a ComfyUI inside this process put its models away while its modules are still there."""
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        management.unload_all_models()
        gc.collect()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A process that does not end after its tests, for a thread that waits, shows where and fails."""
    faulthandler.dump_traceback_later(MOST_TO_END, exit=True)


@dataclass(frozen=True)
class RealHost:
    """A running ComfyUI with this pack in it, and its folders."""

    client: "Client"
    url: str
    base: Path
    kill: Callable[[], None]  # at once, as when the machine fails

    def skip_where_too_old(self, path: Path) -> None:
        """Skip the test where this ComfyUI is older than a workflow needs."""
        from comfyui_spacetime.tools.client import load_workflow

        why = self.client.lacking(load_workflow(path))
        if why:
            pytest.skip(why)

    def run(self, workflow: Any, set: dict[str, Any] | None = None) -> "Result":  # noqa: A002 - reads as --set does
        """Run a workflow (a path, or its content, editor or API format) after setting NODE.INPUT to values.

        A refused or failed run raises `comfyui_spacetime.tools.terminal.Trouble` with the node's message.
        """
        from comfyui_spacetime.tools.edits import set_input, split_target

        prompt = self.client.prompt_of(workflow)
        for target, value in (set or {}).items():
            set_input(prompt, *split_target(prompt, target), value, self.client.object_info())
        return self.client.run(prompt)

    def frames(self, workflow: Any, set: dict[str, Any] | None = None) -> list[bytes]:  # noqa: A002 - as above
        """The frames of the video that a workflow saves, to be compared bit for bit.

        They are pictures: libx264 does not write the same file each time where a video has few pixels.
        """
        prompt = {**self.client.prompt_of(workflow)}
        (saving,) = (node for node in prompt.values() if node["class_type"] == "SaveVideo")
        decoding = saving["inputs"]["video"][0]
        while "VAEDecode" not in prompt[decoding]["class_type"]:
            decoding = prompt[decoding]["inputs"]["images"][0]
        prompt["frames"] = {"class_type": "PreviewImage", "inputs": {"images": [decoding, 0]}}
        shown = self.run(prompt, set).outputs["frames"]["images"]
        return [Image.open(self.base / "temp" / one["subfolder"] / one["filename"]).tobytes() for one in shown]


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHost]:
    """The real ComfyUI, started once, on a free port, with folders of its own; SPACETIME_COMFYUI names another one.

    Our own sees the packages that run.py alone installs, since every workflow must run with these.
    """
    from comfyui_spacetime.tools.plain import plain_python

    other = "SPACETIME_COMFYUI" in os.environ
    python = Path(sys.executable) if other else plain_python(tmp_path_factory.mktemp("plain") / "venv")
    with started(tmp_path_factory.mktemp("base"), python) as running:
        yield running


@pytest.fixture(scope="session")
def host_with_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHost]:
    """Another one, with the packages that users install only if they want them, such as Ray."""
    with started(tmp_path_factory.mktemp("base"), Path(sys.executable)) as running:
        yield running


@pytest.fixture
def start_host() -> Any:
    """Start a host of one's own in a folder: `with start_host(base) as host`, also again in the same one."""
    return lambda base: started(base, Path(sys.executable))


@contextmanager
def started(base: Path, python: Path) -> Iterator[RealHost]:
    """A running ComfyUI with this pack."""
    from comfyui_spacetime.tools import comfyui
    from comfyui_spacetime.tools.host import Host

    given = os.environ.get("SPACETIME_COMFYUI")
    if not given:
        comfyui.fetch_tree()
    comfyui.make_base(base)
    narrow = base / "custom_nodes" / "narrow_models"
    if not narrow.exists():
        narrow.symlink_to(ROOT / "tests" / "host" / "narrow_models")
    installation = comfyui.Installation(
        Path(given) if given else comfyui.TREE,
        python,
        comfyui.base_arguments(base),
        managed=True,
        environment={"OMP_NUM_THREADS": "1"},
    )
    with Host.start(installation) as running:
        running.check_pack()
        yield RealHost(running.client, running.url, base, running.process.kill)
