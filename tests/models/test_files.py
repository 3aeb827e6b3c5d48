"""Files are read with limits and end in one sentence; they are written whole or not at all."""

import errno
import json
import os
import time
from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models import files, partials
from comfyui_spacetime.models.files import (
    decoded,
    parsed_json,
    read_json,
    read_tensors,
    read_text,
    replacing,
    take_place,
    write_json,
    write_tensors,
    write_text,
)
from comfyui_spacetime.models.partials import remove_stale
from comfyui_spacetime.models.training.run.folder import Run

TEXT = "ein Würfel, 一只猫, שלום\r\nsecond line"
WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "tensors": lambda path: write_tensors(path, {"x": torch.ones(2)}, {}),
}
FAULTY = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "twice": b'{"a": 1, "b": 2, "a": 3}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "too large": b'{"a": 1e999}',
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "half a character": b'{"a": "\\ud83d"}',
    "cut short": b'{"a": [1, 2',
    "nothing": b"",
    "words": b"hello",
    "list": b"[1, 2]",
    "other encoding": "{'a': 'größer'}".encode("cp1252"),
    "unmarked UTF-16": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "bytes": bytes(range(256)),
}
SLOW = [b'"' * 10**6, b'"\\"' * 400_000, b"[{" * 500_000, b"[]," * 300_000, b"\\" * 10**6]


def one_sentence(error: object, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500
    assert ": " in text, "no remedy"
    for part in parts:
        assert part in text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_with_and_without_a_mark(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(encoding))
    assert read_text(path) == TEXT.replace("\r\n", "\n")
    path.write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(path) == TEXT.replace("\r\n", "\n")


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "utf-16-le", "utf-32", "shift_jis"])
def test_text_in_other_encodings_is_refused_by_name(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("ein Würfel 一只猫".encode(encoding, "ignore"))
    with pytest.raises(ValueError, match="UTF-8") as caught:
        read_text(path)
    one_sentence(caught.value, "a.txt")


def test_what_is_no_file_of_a_bearable_size_is_refused(tmp_path):
    (tmp_path / "large.txt").write_text("a" * 101)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("large.txt", "loop", "pipe", "missing", ".", "n" * 300):
        with pytest.raises(ValueError, match=":") as caught:
            read_text(tmp_path / name, limit=100)
        one_sentence(caught.value)


@pytest.mark.parametrize("name", FAULTY)
def test_a_json_file_with_a_fault_is_one_sentence(tmp_path, name):
    path = tmp_path / "settings.json"
    path.write_bytes(FAULTY[name])
    with pytest.raises(ValueError, match=r"settings\.json") as caught:
        read_json(path, dict)
    one_sentence(caught.value)


@pytest.mark.parametrize("text", SLOW)
def test_no_text_of_a_megabyte_is_slow(text):
    start = time.process_time()
    with pytest.raises(ValueError, match="a text"):
        parsed_json(text, "a text")
    assert time.process_time() - start < 2


def test_brackets_within_strings_are_no_levels():
    value = {"a": "[{" * 300, "b": '"[' * 300, "c": "\\" * 3 + "[" * 300}
    assert parsed_json(json.dumps(value), "it", dict) == value
    assert parsed_json("[" * 100 + "]" * 100, "it")
    assert parsed_json(json.dumps({"face": "\U0001f600"}), "it") == {"face": "\U0001f600"}


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"a": [1, -2.5, 10**20, None, True], "ü": {"": "\u2028"}, "seed": 2**64 - 1}
    write_json(tmp_path / "new" / "a.json", value)
    assert read_json(tmp_path / "new" / "a.json", dict) == value
    for wrong in (float("nan"), "\ud83d"):
        with pytest.raises(ValueError, match=r"b\.json was not written"):
            write_json(tmp_path / "b.json", [wrong])
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_refused_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, writer, number):
    path = tmp_path / "it"
    path.write_text("old")

    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match=r"cannot be written, .*; what was there is kept") as caught:
        WRITERS[writer](path)
    one_sentence(caught.value)
    assert caught.value.errno == number
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["it"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device on this system")  # noqa: PTH110
def test_a_full_disk_is_said_for_tensors_too(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="the disk is full: free some space"):
        write_tensors(tmp_path / "x.safetensors", {"x": torch.ones(1)}, {})


def test_flushing_is_asked_of_a_handle_that_may_write(tmp_path, monkeypatch):
    import fcntl

    def only_written(handle):  # as Windows does
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(files.os, "fsync", only_written)
    for name, writer in WRITERS.items():
        writer(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 0


def test_a_long_name_needs_no_longer_one(tmp_path):
    path = tmp_path / ("猫" * 80 + ".json")
    write_json(path, 1)
    assert read_json(path) == 1


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path):
    old, young = tmp_path / ".a.json.12.partial", tmp_path / ".a.json.13-0.partial"
    kept = tmp_path / "mine.partial"
    for path in (old, young, kept):
        path.write_text("half")
    os.utime(old, (0, 0))
    os.utime(kept, (0, 0))
    write_json(tmp_path / "b.json", 1)
    assert {entry.name for entry in tmp_path.iterdir()} == {young.name, kept.name, "b.json"}


def test_a_file_that_another_machine_writes_is_left_alone(tmp_path):
    """On a drive that machines share, the number of a process says nothing about those of another one."""
    gone = 2**22 + 1  # more than a system gives
    ours, others = (tmp_path / f".a.json.{gone}-0@{name}.partial" for name in (partials.machine(), "01234567"))
    folder = tmp_path / f".parts.{gone}-1@{partials.machine()}.partial"
    folder.mkdir()
    for path in (ours, others, folder / "1"):
        path.write_text("half")
    write_json(tmp_path / "b.json", 1)
    assert {entry.name for entry in tmp_path.iterdir()} == {others.name, "b.json"}
    os.utime(others, (0, 0))
    partials.remove_left_over(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.json"]


def test_what_is_being_written_bears_the_name_of_this_machine(tmp_path):
    with replacing(tmp_path / "a") as partial:
        assert partial.name.endswith(f"@{partials.machine()}.partial")
        partial.write_text("whole")
        remove_stale(tmp_path)
        assert partial.exists()
    assert (tmp_path / "a").read_text() == "whole"


def test_machines_starts_and_containers_are_told_apart(monkeypatch):
    seen = set()
    for name, namespace in (("a", "pid:[1]"), ("b", "pid:[1]"), ("a", "pid:[2]")):
        monkeypatch.setattr(partials.platform, "node", lambda name=name: name)
        monkeypatch.setattr(partials.os, "readlink", lambda _, namespace=namespace: namespace)
        seen.add(partials.machine.__wrapped__())
    assert len(seen) == 3


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(tmp_path, monkeypatch, there):
    fresh, place = tmp_path / "new", tmp_path / "place"
    fresh.mkdir()
    (fresh / "a").write_text("new")
    if there:
        place.mkdir()
        (place / "b").write_text("old")
    rename = Path.replace

    def refused(self, target):
        if self == fresh:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        with pytest.raises(OSError, match="place cannot be written, this user has no permission") as caught:
            take_place(fresh, place)
    one_sentence(caught.value)
    assert place.exists() == there
    assert not there or (place / "b").read_text() == "old"
    take_place(fresh, place)
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "a"]


def test_a_run_removes_what_a_killed_one_left_at_once(tmp_path):
    for place in (tmp_path, tmp_path / "samples", tmp_path / "averages"):
        place.mkdir(exist_ok=True)
        (place / ".a.safetensors.12-3.partial").write_text("half")
        (place / "mine.partial").write_text("kept")
    Run(tmp_path, {"a": 1})
    assert {path.name for path in tmp_path.rglob("*.partial")} == {"mine.partial"}


def test_an_interrupted_block_leaves_nothing(tmp_path):
    def interrupted():
        with replacing(tmp_path / "a") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04data", "pickle"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"GGUF\x03", "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"", "empty"),
        (b"\xff" * 100, "not a whole safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_named_for_what_it_is(tmp_path, content, said):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_tensors(path)
    one_sentence(caught.value, "model.safetensors")


def test_the_place_of_a_wrong_byte_is_said():
    with pytest.raises(ValueError, match="line 3"):
        decoded(b"a\nb\nc\xe9\n", "it")
    with pytest.raises(ValueError, match="line 2, column 7"):
        parsed_json('{"a":\n [1, 2', "it")
