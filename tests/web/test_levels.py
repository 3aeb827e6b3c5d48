"""The painter's arithmetic is that of the run: one map on many grids, in Python and in JavaScript."""

import json
import subprocess
from pathlib import Path

import torch

from comfyui_spacetime.models.tasks.painting import LevelMap, parse_map

HERE = Path(__file__).resolve().parent
GRIDS = [(1, 1, 1), (2, 3, 4), (9, 6, 6), (5, 7, 3), (4, 13, 11)]
SCRIPT = """
import { load } from "./load.mjs";
const { format, on, parse } = await load("levels/map.js");
const cases = JSON.parse(process.argv[2]);
const laid = ({ text, grid }) => ({ text: format(parse(text)), levels: [...on(parse(text), grid).levels] });
console.log(JSON.stringify(cases.map(laid)));
"""


def test_both_lay_a_map_over_a_grid_alike(node, tmp_path):
    maps = []
    for size in GRIDS:
        count = size[0] * size[1] * size[2]
        levels = torch.randint(1, 101, (count,), generator=torch.Generator().manual_seed(count), dtype=torch.uint8)
        maps.append(LevelMap(size, levels.numpy().tobytes()))
    cases = [{"text": one.text(), "grid": grid} for one in maps for grid in GRIDS]
    (tmp_path / "both.mjs").write_text(SCRIPT.replace("./load.mjs", (HERE / "load.mjs").as_uri()), encoding="utf-8")
    ran = subprocess.run(
        [node, "--no-warnings", str(tmp_path / "both.mjs"), json.dumps(cases)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for case, painter in zip(cases, json.loads(ran.stdout), strict=True):
        run = parse_map(case["text"]).on(*case["grid"])
        assert painter["text"] == case["text"]
        assert (run * 100).round().flatten().int().tolist() == painter["levels"]
