"""Rows of the overhead benchmark that need the host."""

import logging

import pytest


@pytest.fixture
def overhead(comfy_host, monkeypatch):
    """The benchmark, which leaves the host's folders and its log as they are."""
    from comfyui_spacetime.tools.bench import overhead

    monkeypatch.setattr(overhead, "save_checkpoints", lambda _folder: None)
    level = logging.getLogger().level
    yield overhead
    logging.getLogger().setLevel(level)


def test_nodes_and_single_steps_have_rows(overhead):
    rows = list(overhead.node_rows(1, ["SpacetimeScheduler", "SpacetimeSampler", "SpacetimeEmptyVideo"]))
    rows += overhead.step_rows(1, preset="test", steps=2)
    assert all(list(row) == ["name", "value", "unit", "goal", "met", "note"] for row in rows)
    assert len(rows) > 2
    assert all(row["value"] > 0 for row in rows)
    assert "results equal" in rows[-1]["note"]
