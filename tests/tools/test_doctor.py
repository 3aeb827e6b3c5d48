"""What `run.py doctor` says of the machine."""

import sys

from comfyui_spacetime.tools import doctor


def test_what_was_chosen_is_said_with_the_reason(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["", str(doctor.ROOT)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(compile(doctor.PROBE, "probe", "exec"), {})  # noqa: S102 - our own, which doctor gives to the host's Python
    lines = capsys.readouterr().out.splitlines()
    chosen = [line for line in lines if line.startswith("chosen: ")]
    assert all("because" in line for line in chosen)
    for word in ("the DiT in", "the VAE in", "dense attention by", "packed clips by", "compiled"):
        assert sum(word in line for line in chosen) == 1, word
    assert [line.split(":")[0] for line in lines if not line.startswith("chosen")] == [
        "torch",
        "device",
        "dtypes",
        "attention",
        "libraries",
    ]
