"""Benchmarks give rows of the agreed form. What they measure is not judged here: a busy machine would decide."""

import argparse
import ast
import json
import sys

import pytest
import torch

from comfyui_spacetime.tools.bench import __main__ as bench
from comfyui_spacetime.tools.bench import fingerprints, forwards, memory, packing
from comfyui_spacetime.tools.bench.timing import paired


@pytest.fixture
def tiny(monkeypatch):
    shapes = {name: forwards.Shape(48, 2, 2, shape.text and 8) for name, shape in forwards.SHAPES.items()}
    monkeypatch.setattr(forwards, "SHAPES", shapes)
    monkeypatch.setattr(forwards, "ROUNDS", {64: 1})


def test_forward_rows(tiny):
    rows = list(forwards.forwards((64,), ("dit_s", "latte", "wan")))
    assert [row["name"] for row in rows] == ["forward_dit_s_64", "forward_latte_64", "forward_wan_64"]
    for row in rows:
        assert list(row) == ["name", "ours", "reference", "ratio", "bound", "note"]
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
        assert row["bound"] > row["ratio"]  # something beside the products takes time too
        assert "equal shapes, other weights" in row["note"]


@pytest.mark.parametrize("name", ["dit_s", "latte", "wan"])
def test_both_sides_do_a_pass_over_the_same_latents(tiny, name):
    ours, reference = forwards.pair(name, 64, torch.float32)
    with torch.inference_mode():
        one, other = ours(), reference()[0]
    assert one.numel() == other.numel()
    assert torch.isfinite(one).all()
    assert torch.isfinite(other).all()


def test_space_and_time_attend_by_turns():
    q, k, v = torch.randn(3, 1, 2, 12, 4).unbind(0)  # 3 frames of 4 patches
    kernel = forwards.space_and_time(3)
    frames, places = torch.arange(12) // 4, torch.arange(12) % 4
    for group in (frames, places):
        mask = group[:, None] == group[None]
        assert torch.allclose(kernel(q, k, v), forwards.sdpa(q, k, v, mask), atol=1e-6)
    text = torch.randn(1, 2, 5, 4)
    assert torch.equal(kernel(q, text, text), forwards.sdpa(q, text, text))


def test_paired_takes_turns_and_warms_up():
    calls = []
    times = paired(lambda: calls.append("a"), lambda: calls.append("b"), rounds=2)
    assert calls == ["a", "b"] * 3
    assert len(times) == 2


@pytest.mark.parametrize(
    ("task", "named"),
    [("encode", "encode"), ("decode", "decode"), ("extend", "extend"), ("finer", "second pass, 1 x the sides")],
)
def test_memory_rows(task, named):
    row = memory.measured(task, 1, preset="test")
    assert list(row) == ["name", "seconds", "peak_mb", "cpu_s"]
    assert (row["name"], round(row["seconds"])) == (named, 1)


def test_packed_clips_equal_separate_ones_in_the_benchmark_too(monkeypatch):
    monkeypatch.setattr(packing, "MIXES", {"two": ((3, 8, 8), (2, 4, 12)), "three": ((1, 4, 4), (5, 4, 4), (2, 8, 4))})
    parser = argparse.ArgumentParser()
    packing.add_options(parser)
    rows = list(packing.rows(parser.parse_args(["--preset", "test", "--steps", "2", "--rounds", "1"])))
    assert [(row["name"], row["clips"], row["patches"]) for row in rows] == [("two", 2, 72), ("three", 3, 40)]
    for row in rows:
        assert row["difference"] <= 1e-4
        assert row["padded / packed"] > 0


def test_json_holds_name_machine_and_rows(tmp_path, monkeypatch, capsys):
    row = {"name": "decode", "seconds": 1, "peak_mb": 2.0, "cpu_s": 0.5}
    monkeypatch.setattr(memory, "rows", lambda: iter([row]))
    monkeypatch.setattr(sys, "argv", ["bench", "memory", "--json", str(tmp_path / "out.json")])
    assert bench.main() == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert set(report) == {"name", "machine", "rows"}
    assert report["rows"] == [row]
    assert "decode" in capsys.readouterr().out


def test_every_benchmark_has_a_title():
    assert {"exactness", "speed", "memory"} <= set(bench.names())
    for name in bench.names():
        folder = bench.HERE / name / "__init__.py"
        file = folder if folder.exists() else bench.HERE / f"{name}.py"
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), name


def test_fingerprints_are_equal_in_two_runs_and_see_a_single_bit(monkeypatch):
    monkeypatch.setattr(fingerprints, "RUNS", {"plain": {}})
    once, again = (list(fingerprints.rows()) for _ in range(2))
    assert once == again
    names = [row["name"] for row in once]
    assert {"train a DiT, plain", "train a VAE", "generate", "solver euler", "task extend"} <= set(names)
    assert len({row["sha256"] for row in once}) == len(set(names)) == len(names)
    x = torch.randn(4)
    other = x.clone()
    other.view(torch.int32)[2] ^= 1
    assert len({fingerprints.fingerprint({"x": one}) for one in (x, other, x.reshape(2, 2), x.int())}) == 4
