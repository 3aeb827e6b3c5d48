"""What can go wrong in a run: a full disk, another model's checkpoint. Nothing is lost, and one sentence says why."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from comfyui_spacetime.models.files import read_tensors, write_tensors
from comfyui_spacetime.tools.bench import resume

from .test_training_batches import cache, train  # noqa: F401 - a fixture


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_ends_a_run_with_its_last_checkpoint_whole(tmp_path):
    """A limit on the size of files stands for the disk: writing the next checkpoint fails in the middle."""
    import resource

    # more steps than a fast machine takes before it is interrupted
    arguments, out = resume.dit_arguments(resume.prepare(tmp_path), steps=60), tmp_path / "run"
    resume.interrupt(arguments, out, signal.SIGTERM)
    file = out / "checkpoint.safetensors"
    before = file.read_bytes()

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    command = [sys.executable, str(resume.ROOT / "tools" / "pack.py"), "models.training", "--threads", "1", *arguments]
    ended = subprocess.run(
        [*command, "--out", str(out)],
        check=False,
        cwd=resume.ROOT,
        capture_output=True,
        text=True,
        preexec_fn=little_room,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "checkpoint.safetensors cannot be written" in ended.stderr
    assert "takes no file that large: choose another disk, or raise the limit; what was there is kept" in ended.stderr
    assert file.read_bytes() == before
    assert not list(out.glob("*.partial"))
    resume.finish(resume.start(arguments, out))  # room again: it goes on
    resume.finish(resume.start(arguments, tmp_path / "whole"))
    assert resume.same(tmp_path / "whole", out, "dit.safetensors")


def test_the_checkpoint_of_another_model_is_refused_and_kept(cache, tmp_path):  # noqa: F811
    train(cache, tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    tensors, header = read_tensors(file)
    for wrong in (
        {name: t for name, t in tensors.items() if "head" not in name},
        {name: torch.zeros(3, 5) for name in tensors},
    ):
        write_tensors(file, wrong, header)
        content = file.read_bytes()
        with pytest.raises(ValueError, match=r"belongs to another model .*: choose another --out"):
            train(cache, tmp_path)
        assert file.read_bytes() == content
    assert json.loads((tmp_path / "config.json").read_text())["preset"] == "test"
