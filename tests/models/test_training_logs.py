"""Logs of a run, read back with the programs' own readers."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from comfyui_spacetime.models.training.run.logs import check_logs

from .test_training_batches import train, write_cache

ROOT = Path(__file__).resolve().parents[2]
RUN = {"steps": 24, "save_every": 12}


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return write_cache(tmp_path / "cache")


def rows(folder) -> dict[str, dict[int, float]]:
    """The numbers of log.jsonl, by name and step."""
    found: dict[str, dict[int, float]] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in row.keys() - {"step", "time"}:
            found.setdefault(name, {})[row["step"]] = row[name]
    return found


def test_tensorboard_reads_what_the_log_says(cache, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(cache, tmp_path / "run", log="tensorboard", **RUN)
    reader = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    reader.Reload()
    expected = rows(tmp_path / "run")
    assert set(reader.Tags()["scalars"]) == set(expected) == {"loss", "gradient", "validation_loss"}
    for name, values in expected.items():
        assert {e.step: pytest.approx(e.value, rel=1e-6) for e in reader.Scalars(name)} == values
    assert [image.step for image in reader.Images("samples")] == [12, 24]


def test_a_resumed_run_replaces_what_lay_beyond_its_checkpoint(cache, tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from comfyui_spacetime.models.training.dit import train as training

    original = training.draw_batch

    def dying(*args, **more):
        if any(
            isinstance(one, torch.Generator) and one.initial_seed() == training.generator(0, 22).initial_seed()
            for one in (*args, *more.values())
        ):
            raise KeyboardInterrupt
        return original(*args, **more)

    monkeypatch.setattr(training, "draw_batch", dying)
    with pytest.raises(KeyboardInterrupt):
        train(cache, tmp_path / "run", log="tensorboard", **RUN)
    monkeypatch.undo()
    train(cache, tmp_path / "run", log="tensorboard", **RUN)
    reader = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    reader.Reload()
    assert [e.step for e in reader.Scalars("loss")] == [0, 20]


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of an offline run: LevelDB's log format behind seven bytes of header."""
    assert content[:4] == b":W&B"
    place, parts = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # a block's end is filled up
            place += 32768 - place % 32768
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


# a log written by a process of its own, which prints what other machines it asked for
ALONE = """
import atexit, json, sys
from pathlib import Path

asked = []
atexit.register(lambda: print(json.dumps(asked)))  # first to come, last to go
sys.addaudithook(lambda event, args: asked.append(str(args[0])) if event == 'socket.getaddrinfo' else None)
sys.path.insert(0, sys.argv[1])
from tools.pack import load

load()
from comfyui_spacetime.models.training.run.logs import open_logs

folder, rows = Path(sys.argv[2]), json.loads(sys.argv[3])
(log,) = open_logs("wandb", folder, {"steps": 24}, 0)
for step, values in rows:
    log.values(step, values)
log.picture(24, folder / "samples.png")
log.close()
"""


def test_wandb_writes_into_the_run_folder_and_calls_nobody(tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    Image.new("RGB", (8, 8)).save(tmp_path / "samples.png")
    rows = [(12, {"loss": 1.5, "gradient": 0.25}), (24, {"loss": 1.25, "gradient": 0.5, "validation_loss": 1.75})]
    others = ("WANDB_", "HTTP", "ALL_PROXY", "PYTEST")  # settings of whoever runs the tests
    told = {name: value for name, value in os.environ.items() if not name.upper().startswith(others)}
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, str(ROOT), str(tmp_path), json.dumps(rows)],
        check=True,
        capture_output=True,
        text=True,
        env=told,
    )
    assert json.loads(ended.stdout) == []
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    found: dict[str, dict[int, float]] = {}
    settings = {}
    for data in wandb_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        items = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
        for name in items.keys() & {"loss", "gradient", "validation_loss"}:
            found.setdefault(name, {})[items["step"]] = items[name]
    assert found == {
        name: {step: values[name] for step, values in rows if name in values}
        for name in ("loss", "gradient", "validation_loss")
    }
    assert settings["steps"] == 24
    assert list(file.parent.glob("files/media/images/samples_*.png"))


def test_unknown_and_missing_logs_are_one_sentence(cache, tmp_path, monkeypatch):
    assert check_logs(" tensorboard, wandb ") == ["tensorboard", "wandb"]
    assert check_logs("") == []
    with pytest.raises(ValueError, match="no log called mlflow: --log takes tensorboard, wandb"):
        check_logs("mlflow")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="wandb is not installed; pip install wandb"):
        train(cache, tmp_path / "run", log="wandb", **RUN)


def test_nothing_is_imported_unless_asked_for(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    train(cache, tmp_path / "run", **RUN)
