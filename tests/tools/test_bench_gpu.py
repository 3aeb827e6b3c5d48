"""The benchmark of a card, on the CPU at tiny sizes: rows of one form, in time, and on after a failure."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from comfyui_spacetime.tools.bench import gpu
from comfyui_spacetime.tools.bench.gpu import checks, measure
from comfyui_spacetime.tools.bench.gpu.measure import Card, Case, Found

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["group", "name", "ok", "value", "unit", "ms", "seconds", "note"]
CARD = Card(torch.device("cpu"), tiny=True)


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    gpu.add_options(parser)
    return parser.parse_args(["--device", "cpu", "--tiny", *given])


@pytest.mark.parametrize(
    "group",
    [name for name in gpu.GROUPS if name not in ("checks", "compiled")]
    + [pytest.param("compiled", marks=pytest.mark.slow)],
)
def test_every_group_gives_rows_of_one_form(group):
    found = list(gpu.rows(options("--only", group)))
    assert found
    for row in found:
        assert list(row) == COLUMNS
        assert row["group"] == group
        assert row["ok"] or "CPU" in row["note"] or "backend" in row["note"], row
    json.dumps(found, allow_nan=False)


def test_every_check_holds_where_the_card_is_the_cpu():
    for row in gpu.rows(options("--only", "checks")):
        assert row["ok"], row
        assert row["value"] <= 0.05, row


def test_a_check_notices_what_is_wrong(monkeypatch):
    right = checks.sampled
    monkeypatch.setattr(checks, "sampled", lambda place, *rest: right(place, *rest) + (place is CARD.device) * 0.01)
    assert not checks.solver(CARD, "euler").ok


def test_a_row_that_fails_or_hangs_says_why_and_the_next_one_goes_on(monkeypatch):
    def hang() -> Found:
        while True:
            time.sleep(0.01)

    given = [
        Case("fails", lambda: 1 / 0),
        Case("hangs", hang, limit=0.2),
        Case("works", lambda: Found(1.0, "of 1")),
    ]
    monkeypatch.setattr(checks, "cases", lambda _: given)
    rows = list(gpu.rows(options("--only", "checks")))
    assert [row["ok"] for row in rows] == [False, False, True]
    assert "ZeroDivisionError" in rows[0]["note"]
    assert "given up" in rows[1]["note"]
    rows = list(gpu.rows(options("--only", "checks", "--minutes", "0")))
    assert {row["note"] for row in rows} == {"no time left"}


def test_operations_are_counted_without_computing():
    layer = torch.nn.Linear(8, 16, bias=False, device="meta")
    assert measure.operations(lambda: layer(torch.empty(4, 8, device="meta"))) == 2 * 4 * 8 * 16


def test_a_bare_machine_runs_it_and_gets_the_json(tmp_path):
    """Nothing but torch, numpy, pillow, safetensors and einops is imported."""
    blocked = ("av", "cv2", "transformers", "diffusers", "comfy", "scipy", "torchvision")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules.update(dict.fromkeys({blocked!r}));"
        "from tools.pack import load; load(); import runpy; sys.argv = ['bench', 'gpu', '--device', 'cpu', '--tiny',"
        f"'--only', 'vae', '--json', {str(tmp_path / 'out.json')!r}];"
        "runpy.run_module('comfyui_spacetime.tools.bench', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    report = json.loads((tmp_path / "out.json").read_text())
    assert done.returncode == 0, done.stderr
    assert {row["group"] for row in report["rows"]} == {"vae"}
