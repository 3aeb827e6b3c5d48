"""The arithmetic of the editor's scripts, in the Node that Playwright brings along: `tests/web/*.test.mjs`."""

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "web" / "js"
MOST = 100_000  # bytes of all scripts, which the editor fetches whenever it starts


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name.split(".")[0])
def test_arithmetic_of_scripts(node, path):
    command = [node, "--no-warnings", "--test", str(path)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.js")), ids=lambda path: path.stem)
def test_scripts_are_as_short_as_other_files(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_all_scripts_together_are_small():
    assert sum(path.stat().st_size for path in SCRIPTS.rglob("*.js")) < MOST
