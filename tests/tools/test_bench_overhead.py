"""The overhead benchmark: what it counts, and rows of the agreed form."""

import time

import pytest
import torch

from comfyui_spacetime.tools.bench import imports, overhead

COLUMNS = ["name", "value", "unit", "goal", "met", "note"]


class Busy(torch.nn.Module):
    """A network that takes its time, alone and within another one."""

    def forward(self, seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass


def test_networks_do_not_count_and_all_else_does():
    whole = torch.nn.Sequential(Busy())
    plain = torch.nn.Module.__call__

    def run() -> None:
        Busy().forward(0.03)  # not called as a network is
        whole(0.2)

    assert 0.03 <= overhead.outside_networks(run) < 0.2
    assert torch.nn.Module.__call__ is plain
    with pytest.raises(ZeroDivisionError):
        overhead.outside_networks(lambda: 1 / 0)
    assert torch.nn.Module.__call__ is plain


def test_imports_are_measured_in_fresh_processes():
    assert 0 < imports.seconds("library", rounds=1) < 30


def test_rows_say_whether_a_goal_is_met(monkeypatch):
    monkeypatch.setattr(imports, "seconds", lambda kind, _rounds: {"bare": 2.0, "library": 0.1, "host": 0.9}[kind])
    rows = list(overhead.import_rows(1))
    assert all(list(row) == COLUMNS for row in rows)
    assert [row["met"] for row in rows] == ["", True, False]
