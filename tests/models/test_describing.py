"""Descriptions: what language models answer is read, whatever its shape, and checked; texts are sorted into fields."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from comfyui_spacetime.models.text.describing import LanguageDescriber, evenly, read_answer
from comfyui_spacetime.models.text.description import Description, still_part, strip_opener
from comfyui_spacetime.models.text.language_models import LanguageModelError

GOOD = {
    "subjects": ["a brown dog with a red collar"],
    "actions": ["the dog runs to the left", "it jumps over a log"],
    "background": "a forest path in autumn light",
    "camera": "tracks the dog",
    "style": "realistic footage",
    "paragraph": "A brown dog with a red collar runs to the left and jumps over a log on a forest path.",
}
FRAMES = np.zeros((3, 40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"<think>What is {{this}}?</think>Sure! Here is the JSON:\n{json.dumps(GOOD)}\nLet me know if you need more.",
        json.dumps(GOOD)[:-1] + ",}",
        json.dumps({**GOOD, "subjects": [{"name": "dog", "attributes": ["brown", "with a red collar"]}]}),
        json.dumps({**GOOD, "subjects": "a brown dog", "actions": "it runs"}),
        json.dumps({name.upper(): value for name, value in GOOD.items()}),
        json.dumps({("caption" if name == "paragraph" else name): value for name, value in GOOD.items()}),
        json.dumps({**GOOD, "mood": None, "score": 7}),
        json.dumps({**GOOD, "paragraph": "The video shows a" + GOOD["paragraph"][1:]}),
    ],
)
def test_json_is_read_in_any_wrapping(answer):
    found = read_answer(answer)
    assert found.paragraph == GOOD["paragraph"]
    assert "dog" in found.subjects[0]
    assert found.background == GOOD["background"]
    assert json.loads(found.as_json())["camera"] == "tracks the dog"


def test_an_answer_that_was_cut_off_gives_what_is_whole():
    text = json.dumps(GOOD)
    found = read_answer(text[: text.index("realistic")])
    assert found.camera == "tracks the dog"
    assert found.style == ""
    assert found.paragraph.startswith("A brown dog with a red collar. The dog runs to the left. It jumps over a log.")


def test_plain_text_is_sorted_into_the_fields():
    text = (
        "The video shows a woman in a yellow coat. She opens an umbrella, then crosses the street. In the "
        "background, there are tall houses. The camera follows her from behind. Warm "
        "lighting with a cinematic look."
    )
    found = read_answer(text)
    assert found.paragraph.startswith("A woman in a yellow coat.")
    assert found.subjects == ("A woman in a yellow coat.",)
    assert found.actions == ("She opens an umbrella, then crosses the street.",)
    assert found.background == "In the background, there are tall houses."
    assert found.camera == "The camera follows her from behind."
    assert "cinematic" in found.style
    whole = " ".join((*found.subjects, *found.actions, found.background, found.camera, found.style))
    assert whole == found.paragraph  # nothing is lost, nothing said twice


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "empty"),
        ("   \n ", "empty"),
        ("I'm sorry, but I can't describe people.", "refusal"),
        ("<html><body>502 Bad Gateway</body></html>", "web page"),
        ("a dog " * 200, "repeats itself"),
        ('{"subjects": ["a dog"', "broken JSON"),
        ("{}", "broken JSON"),
        ('{"subjects": [], "paragraph": ""}', "none of the fields"),
        ('{"paragraph": "As an AI I cannot see videos."}', "refusal"),
    ],
)
def test_what_is_no_description_is_refused_with_the_reason(answer, problem):
    with pytest.raises(ValueError, match=problem):
        read_answer(answer)


@pytest.mark.parametrize(
    "opener",
    [
        "The video shows ",
        "This clip depicts ",
        "In this video, we see ",
        "The scene features ",
        "We see ",
        "A short video shows us ",
        "In the video, there is ",
        "The footage captures ",
        "The animation begins with ",
        "",
    ],
)
def test_openers_are_stripped(opener):
    expected = "There is a red ball on a table." if "there is" in opener else "A red ball on a table."
    assert strip_opener(f"{opener}a red ball on a table.") == expected


def test_openers_inside_a_sentence_stay():
    for text in ("A man watches a video that shows a dog.", "The scene is dark.", "The video game console falls."):
        assert strip_opener(text) == text


class Answers:
    """A language model with prepared answers; remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, question):
        self.asked.append((question.instruction, question.message, question.seed, list(question.images)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_frames_go_out_as_pictures_with_their_times():
    model = Answers(json.dumps(GOOD))
    found = LanguageDescriber(model, side=30).look(FRAMES, [0.0, 0.5, 1.25], seed=7)
    assert found.subjects == tuple(GOOD["subjects"])
    ((instruction, message, seed, images),) = model.asked
    assert "40 to 90 words" in instruction
    assert "0.00 s, 0.50 s, 1.25 s" in message
    assert seed == 7
    assert [image[:4] for image in images] == [b"\x89PNG"] * 3
    assert int.from_bytes(images[0][16:20], "big") == 30  # scaled to its side


def test_a_bad_answer_is_asked_for_again_with_the_reason_and_at_last_given_up():
    model = Answers("I'm sorry, I can't do that.", json.dumps(GOOD))
    assert LanguageDescriber(model).look(FRAMES, [0, 1, 2]).camera == "tracks the dog"
    assert "refusal" in model.asked[1][1]
    with pytest.raises(RuntimeError, match="the 3 answers of Answers are no description: it is empty"):
        LanguageDescriber(Answers("", "", "")).look(FRAMES, [0, 1, 2])
    with pytest.raises(LanguageModelError, match="no server"):
        LanguageDescriber(Answers(LanguageModelError("no server"))).look(FRAMES, [0, 1, 2])
    with pytest.raises(ValueError, match="no length"):
        LanguageDescriber(model, length="long")


def test_frames_are_spread_evenly_with_both_ends():
    assert evenly(100, 5) == [0, 25, 50, 74, 99]
    assert evenly(3, 8) == [0, 1, 2]
    assert evenly(1, 8) == [0]
    with pytest.raises(ValueError, match="no frames"):
        evenly(0, 8)


def test_a_text_keeps_its_sentences_and_a_still_only_what_it_can_show():
    text = (
        "There is a red ball. The red ball bounces to the left. The background is a dark checkered floor at night. "
        "The camera does not move. Minimal 3D render with soft light."
    )
    found = Description.of_text(text)
    assert asdict(found)["actions"] == ("The red ball bounces to the left.",)
    assert still_part(text) == (
        "There is a red ball. The background is a dark checkered floor at night. Minimal 3D render with soft light."
    )
    assert still_part("a red ball bounces") == ""
