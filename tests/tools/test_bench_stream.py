"""`run.py bench stream`: its rows for a short stream, and drifts that are what is known of clips."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from comfyui_spacetime.tools.bench import stream


@pytest.fixture
def options():
    parser = argparse.ArgumentParser()
    stream.add_options(parser)
    return parser.parse_args(["--size", "32x32x17", "--seconds", "2.5", "--limit", "1", "--steps", "6"])


def test_rows_of_a_stream_and_of_extend_far(options, monkeypatch):
    monkeypatch.setattr(stream, "measured", lambda _, seconds: {"peak_mb": float(seconds)})
    monkeypatch.setattr(stream, "ROUNDS", 1)
    made, plain = {}, stream.judged

    def judged(bench, way, name):
        def counted(bench, index):
            for piece in way(bench, index):
                made[name] = made.get(name, 0) + piece.shape[2]
                yield piece

        return plain(bench, counted, name)

    monkeypatch.setattr(stream, "judged", judged)
    rows = {row["name"]: row for row in stream.rows(options)}
    assert list(rows)[:3] == [f"{seconds} s into a file" for seconds in (1, 10, 60)]
    assert made == dict.fromkeys(
        ("stream, few steps", "stream", "Extend Far, few steps", "Extend Far"), 1 + 4 * round(2.5 * 12 / 4)
    )
    for name in made:
        assert list(rows[name]) == ["name", *stream.ROW]
        assert rows[name]["s a frame"] > 0
        assert np.isfinite([rows[name][drift] for drift in ("colour", "contrast", "sharpness")]).all()
        assert (rows[name]["cache"] or 0) > 0 or name.startswith("Extend Far")


def test_drifts_are_those_of_the_clip():
    truth = np.zeros((5, 16, 16, 3), np.uint8)
    bench = SimpleNamespace(options=argparse.Namespace(limit=1), truths=[truth])
    noise = torch.rand(1, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5

    def brighter_by(share: float):
        return lambda *_: iter([noise.expand(-1, -1, 24, -1, -1), noise.expand(-1, -1, 24, -1, -1) + 2 * share])

    still, brighter = (stream.judged(bench, brighter_by(share), "a clip") for share in (0.0, 0.1))
    assert (still["colour"], still["contrast"], still["sharpness"]) == (0, 0, 0)
    assert brighter["colour"] == pytest.approx(10, abs=0.1)
    assert brighter["contrast"] == pytest.approx(0, abs=0.1)
