"""The commands for working on the pack: set up, test, check, measure, make pictures."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from . import comfyui, other_hosts
from .child import run_in
from .environment import ROOT
from .machine import system_package
from .terminal import say

WAITING = ("host", "browser", "gpu")  # folders of tests that wait for other processes much of their time
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def set_up(options: argparse.Namespace, _rest: list[str]) -> None:
    """Set up everything and start nothing."""
    installation = comfyui.managed(dev=True, apt=options.apt)
    say(f"ready: {installation.tree} with {installation.python}")


def test(options: argparse.Namespace, rest: list[str]) -> int:
    """Set up what the tests need and run them."""
    paths = [argument for argument in rest if not argument.startswith("-") and Path(argument.split("::")[0]).exists()]
    if not paths or any("browser" in path for path in paths):
        chromium_path(apt=options.apt)
    if given := other_hosts.tree_of(options):
        python, variables = other_hosts.for_tests(given)
        return run_in(python, ["-m", "pytest", *(() if paths else other_hosts.TESTS), *rest], variables=variables)
    python = comfyui.managed(dev=True, apt=options.apt).python
    return run_in(python, ["-m", "pytest", *rest]) if rest else test_all(python)


def test_all(python: Path) -> int:
    """All tests in two halves side by side, for two cores; what the second one printed comes after the first."""
    everything = [path for path in sorted((ROOT / "tests").iterdir()) if path.is_dir() or path.name.startswith("test_")]
    waiting = [str(path) for path in everything if path.name in WAITING]
    others = [str(path) for path in everything if path.name not in {*WAITING, "data", "__pycache__"}]
    with tempfile.TemporaryFile() as printed:
        half = subprocess.Popen(
            [str(python), "-m", "pytest", *others], cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT
        )
        try:
            code = run_in(python, ["-m", "pytest", *waiting])
            return half.wait() or code
        finally:  # interrupted, too: how far it came
            half.kill()
            printed.seek(0)
            sys.stdout.write(printed.read().decode(errors="replace"))
            sys.stdout.flush()


def check(options: argparse.Namespace, _rest: list[str]) -> int:
    """Run ruff and mypy; mypy needs the checkout under a legal package name, which .link provides."""
    python = comfyui.managed(dev=True, apt=options.apt).python
    comfyui.link(ROOT / ".link" / "comfyui_spacetime")
    steps = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    codes = [run_in(python, ["-m", *step]) for step in steps]
    say("checks passed" if not any(codes) else "checks failed")
    return int(any(codes))


def bench(options: argparse.Namespace, rest: list[str]) -> int:
    """Hand over to the benchmarks, which need the development packages."""
    installation = comfyui.managed(dev=True, apt=options.apt)
    arguments = [*([options.name] if options.name else []), *(["--json", str(options.json)] if options.json else [])]
    return run_in(installation.python, [str(ROOT / "tools" / "pack.py"), "tools.bench", *arguments, *rest])


def pictures(options: argparse.Namespace, _rest: list[str]) -> int:
    """Run the workflows and make pictures of what comes out; needs the development packages and Chromium."""
    python, tree = comfyui.managed(dev=True, apt=options.apt).python, other_hosts.tree_of(options)
    if options.kind in (None, "editor", "widgets", "workflows"):
        chromium_path(apt=options.apt)
    arguments = [*(["--comfyui", tree] if tree else []), *([options.kind, *options.names] if options.kind else [])]
    return run_in(python, [str(ROOT / "tools" / "pack.py"), "tools.pictures", *arguments])


def layout(options: argparse.Namespace, _rest: list[str]) -> int:
    """Measure the nodes of the workflows in the editor and move apart what covers another one; needs Chromium."""
    chromium_path(apt=options.apt)
    python, tree = comfyui.managed(dev=True, apt=options.apt).python, other_hosts.tree_of(options)
    arguments = [*(["--comfyui", tree] if tree else []), *options.files]
    return run_in(python, [str(ROOT / "tools" / "pack.py"), "tools.pictures.rooms", *arguments])


def locales(options: argparse.Namespace, _rest: list[str]) -> int:
    """Write locales/ anew; it reads the schemas and scripts, so it needs the host."""
    installation = comfyui.managed(dev=True, apt=options.apt)
    return run_in(installation.python, [str(ROOT / "tools" / "pack.py"), "tools.locales"])


def chromium_path(*, apt: bool) -> str:
    """Chromium for the browser tests, installed through apt-get when missing and allowed."""
    found = next((path for name in CHROMIUM if (path := which(name))), None)
    if found:
        return found
    system_package("chromium", "A test in the browser", allowed=apt)
    return which("chromium") or "/usr/bin/chromium"
