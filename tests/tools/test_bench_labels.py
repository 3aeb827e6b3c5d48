"""The labels of the prompts are a strict judge: what a person wrote down must stand in the text, as written down."""

import json

import pytest

from comfyui_spacetime.models.text.captions import expand
from comfyui_spacetime.models.text.cleaning import without_control
from comfyui_spacetime.models.text.verification import Verdict
from comfyui_spacetime.tools.bench import captions
from comfyui_spacetime.tools.bench.labels import LABELS, labels, lost, without

KEPT = json.loads(LABELS.read_text(encoding="utf-8"))
THINGS = [(prompt, thing) for prompt, label in KEPT.items() for thing in label["keep"] if not label.get("alone")]
OPEN = [prompt for prompt, label in KEPT.items() if not label.get("alone")]


def test_every_prompt_is_labelled_and_nothing_else():
    assert set(captions.prompts()) == set(labels())
    assert all(label["keep"] for label in KEPT.values() if not label.get("alone"))


@pytest.mark.parametrize("prompt", KEPT)
def test_a_prompt_says_what_its_labels_say(prompt):
    assert lost(prompt, without_control(prompt)) == []


def test_a_thing_taken_out_is_lost():
    for prompt, thing in THINGS:
        text = expand(prompt, "offline").text
        assert thing in lost(prompt, without(thing, text, "")), (prompt, thing)


def test_a_word_that_nobody_wrote_down_is_no_substitute():
    for prompt, thing in THINGS:
        text = expand(prompt, "offline").text
        assert thing in lost(prompt, without(thing, text, " whatsit ")), (prompt, thing)


@pytest.mark.parametrize("prompt", [prompt for prompt in OPEN if KEPT[prompt].get("never")])
def test_what_must_not_be_said_is_found(prompt):
    for thing in KEPT[prompt]["never"]:
        word = " ".join(part.split("/")[0] for part in thing.split())
        assert f"not: {thing}" in lost(prompt, f"{without_control(prompt)} It is {word}.")


@pytest.mark.parametrize(
    ("prompt", "good", "wrong"),
    [
        ("a red ball bounces to the right", "a red rubber ball hops to the right", "a red cube and a ball, right"),
        ("a red ball bounces to the right", "To the RIGHT, a Red Sphere!", "A scarlet ball bounces to the right"),
        ("a red ball bounces to the right", "on the right, a red ball", "red balls to the right"),
        ("twenty-one balloons rise over Paris", "21 balloons over Paris", "twenty balloons rise over Paris"),
        ("a street without cars or people", "a street, no cars, no people", "a street with cars or people"),
        (
            'a neon sign that says "OPEN 24 HOURS" above a door',
            "neon sign: OPEN 24 HOURS, door",
            "neon sign: OPEN 24 hours, door",
        ),
        (
            "drei grüne Würfel und fünf blaue Kegel auf dem Boden",
            "5 blaue Kegel, drei grüne Würfel, am Boden",
            "fünf grüne Würfel und drei blaue Kegel auf dem Boden",
        ),
        (
            "l'homme porte un chapeau bleu à Marseille",
            "L’homme au chapeau bleu, Marseille",
            "l'homme porte un chapeau vert à Marseille",
        ),
        ("三只红色的小猫在海滩上奔跑", "海滩上，三只红色的小猫在跑", "两只红色的小猫在海滩上奔跑"),
    ],
)
def test_the_judge_is_strict(prompt, good, wrong):
    assert lost(prompt, good) == []
    assert lost(prompt, wrong)


def test_what_was_to_be_left_alone_may_not_grow():
    assert lost("?!", "?! The camera is static.") == ["it was to be left alone"]
    assert lost("   ", "") == []


def test_the_benchmark_counts_where_the_packs_own_check_disagrees(monkeypatch):
    prompt = "a red ball bounces to the right"
    texts = [f"{prompt}. The camera is static.", "A scarlet globe flies up over a wide and empty field."]
    count = captions.disagreements
    assert count(prompt, texts) == {"judged": 2, "passed wrongly": 0, "refused wrongly": 0}
    monkeypatch.setattr(captions, "verify", lambda *_: Verdict())
    assert count(prompt, texts) == {"judged": 2, "passed wrongly": 1, "refused wrongly": 0}
    monkeypatch.setattr(captions, "verify", lambda *_: Verdict(missing=("ball",)))
    assert count(prompt, texts) == {"judged": 2, "passed wrongly": 0, "refused wrongly": 1}


def test_offline_rows():
    row = captions.measure("offline", captions.prompts(8), None, "plain")
    assert row["prompts"] == 11
    assert 0 <= row["kept"] <= row["prompts"]
    assert row["judged"] >= row["passed wrongly"] + row["refused wrongly"]
