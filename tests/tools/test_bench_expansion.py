"""`run.py bench expansion`: the same prompts and noise in three ways, and differences that are paired by prompt."""

import argparse
from contextlib import contextmanager

import numpy as np
import pytest

from comfyui_spacetime.models.metrics.fidelity import held_out_scenes
from comfyui_spacetime.tools.bench import expansion
from comfyui_spacetime.tools.bench.fidelity import drawn


def options(*given):
    parser = argparse.ArgumentParser()
    expansion.add_options(parser)
    return parser.parse_args(given)


@pytest.fixture
def places(monkeypatch):
    """In place of the packaged model, one that names a place and a light for every prompt."""

    def answer(_question):
        return "in a quiet garden, in soft morning light"

    answer.small = True

    @contextmanager
    def opened(way):
        yield None if way == "offline" else answer

    monkeypatch.setattr(expansion, "model_of", opened)


def test_differences_are_paired_by_prompt(places, monkeypatch):
    """True clips are right; with those of the local model dealt to other prompts, the difference says so."""
    scenes = held_out_scenes(4)
    asked = []

    def clips(captions, wanted):
        asked.append(list(captions))
        order = np.roll(range(4), 1) if len(asked) == 3 else range(4)
        return [drawn(scenes[i][1], wanted.size) for i in order]

    monkeypatch.setattr(expansion, "generated", clips)
    found = {row["name"]: row for row in expansion.rows(options("--limit", "4"))}
    assert asked[0] == [prompt for prompt, _, _ in scenes]
    for captions in asked[1:]:
        assert all(
            caption.startswith(prompt) and len(caption) > len(prompt) + 20
            for caption, prompt in zip(captions, asked[0], strict=True)
        )
    assert len(found) == 15
    assert all(row["n"] == 4 for row in found.values())
    plain, offline, local = (found[f"all four, {way}"] for way in expansion.WAYS)
    assert plain["value"] == offline["value"] >= 0.75
    assert (plain["difference"], plain["error"], offline["difference"]) == (0, 0, 0)
    assert local["difference"] == local["value"] - plain["value"] < 0
    assert local["error"] > 0
    assert [row["by model"] for row in (plain, offline)] == [0, 0]


def test_it_runs_with_the_embedded_model(places):
    """Small enough for a test, and real: captions, text encoder, sampling, decoder and judge."""
    small = ("--limit", "2", "--size", "32x32x5", "--steps", "1", "--batch", "2")
    found = list(expansion.rows(options(*small)))
    assert len(found) == 3 * 5
    assert all(0 <= row["value"] <= 1 and row["n"] == 2 for row in found)
