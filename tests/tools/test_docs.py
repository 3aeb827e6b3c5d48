"""What people read first: short, with links that lead somewhere, and numbers that name their command."""

import re
from pathlib import Path

import pytest
from PIL import Image

from comfyui_spacetime.tools.client import load_workflow
from comfyui_spacetime.tools.pictures import screens
from comfyui_spacetime.tools.workflow import needed_release

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "web" / "docs").rglob("*.md"), ROOT / "models" / "weights" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBERS = (ROOT / "web" / "docs" / "guides" / "numbers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    addresses = LINK.findall(page.read_text(encoding="utf-8"))
    inside = [address.split("#")[0] for address in addresses if "://" not in address and not address.startswith("#")]
    assert [address for address in inside if not (page.parent / address).exists()] == []


MOVING = {"samples.webp": 1_500_000, "widgets/swap.webp": 500_000, "widgets/patches.webp": 700_000}  # bytes at most


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("name", MOVING)
def test_the_readme_moves(name):
    moving = ROOT / "web" / "docs" / "images" / name
    assert f"(web/docs/images/{name})" in README
    assert moving.stat().st_size < MOVING[name]
    with Image.open(moving) as picture:
        assert picture.is_animated
        assert picture.n_frames > 8


def test_every_workflow_is_in_the_readme():
    patterns = re.findall(r"`([a-z_0-9*]+)`", README[README.index("## Workflows") :].split("\n## ")[0])
    for path in (ROOT / "workflows").glob("*.json"):
        assert any(re.fullmatch(pattern.replace("*", ".*"), path.stem) for pattern in patterns), path.stem


def test_every_workflow_is_shown_in_both_themes():
    assert screens.PAGE.read_text(encoding="utf-8") == screens.page_of_all(), "run.py pictures workflows makes it anew"
    shown = [screens.FOLDER / f"{path.stem}-{theme}.webp" for path in screens.chosen() for theme in screens.THEMES]
    hidden = {path.stem.rpartition("-")[0] for path in shown if not path.exists()}
    assert [name for name in hidden if not needed_release(load_workflow(screens.WORKFLOWS / f"{name}.json"))] == []
    shown = [path for path in shown if path.exists()]
    assert {path.name for path in screens.FOLDER.iterdir()} == {path.name for path in shown}
    sizes = [path.stat().st_size for path in shown]
    assert max(sizes) <= 60_000
    assert sum(sizes) < 3_000_000


def test_every_number_names_a_command_that_exists():
    rows = [line for line in NUMBERS.splitlines() if line.startswith("| ") and not line.startswith("| what |")]
    assert len(rows) >= 20
    for row in rows:
        command = row.split(" | ")[1].strip("` ")
        name = re.fullmatch(r'run\.py (?:bench (\w+)|--once)(?: --[\w-]+(?: [\w.]+| "[\w ]+")?)*', command)
        assert name, row
        assert name[1] is None or (ROOT / "tools" / "bench" / f"{name[1]}.py").exists(), row
