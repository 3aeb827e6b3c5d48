"""The caption is found in whatever an answer wraps it in; what is no single caption is refused; nothing takes long."""

import json
import time
from contextlib import suppress

import pytest

from comfyui_spacetime.models.text.answers import SEVERAL, THINKING, TWICE, clean_answer, unwrap
from comfyui_spacetime.models.text.captions import expand
from comfyui_spacetime.models.text.cleaning import whole_characters
from comfyui_spacetime.models.text.describing import read_answer
from comfyui_spacetime.models.text.faults import split_instructions
from comfyui_spacetime.models.text.verification import verify

PROMPT = "a red ball bounces"
CAPTION = "A shiny red ball bounces on a wooden floor in soft evening light while dust floats in the air."
OTHER = "A glossy red ball bounces on a wooden floor in soft evening light while dust drifts in the air."
NEGATIVE = "blurry, low quality, watermark, deformed"
FIELDS = {"prompt": CAPTION, "negative_prompt": NEGATIVE}

THOUGHTS = {
    "think": f"<think>They want <b>a ball</b>.</think>\n{CAPTION}",
    "thinking": f"<thinking>They want a ball.</thinking>{CAPTION}",
    "no beginning": f"They want a ball. I'm sorry if not.\n</think>\n\n{CAPTION}",
    "several": f"<think>a</think> hm <thought>b</thought>\n{CAPTION}",
    "quoting its own mark": f"<think>I close with </think> later.</think>{CAPTION}",
    "reasoning": f"<reasoning>r</reasoning>{CAPTION}",
    "magistral": f"[THINK]They want a ball.[/THINK]{CAPTION}",
    "kimi": f"◁think▷a ball◁/think▷{CAPTION}",
    "seed": f"<seed:think>a ball</seed:think>{CAPTION}",
    "cohere": f"<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>{CAPTION}<|END_RESPONSE|>",
    "gpt-oss": f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{CAPTION}",
    "gpt-oss stripped": f"analysisThe user wants a caption.assistantfinal{CAPTION}",
    "gemma": f"<|channel>thought\nThe user wants.<channel|>{CAPTION}",
    "apertus": f"<|inner_prefix|>x<|inner_suffix|>{CAPTION}",
    "medgemma": f"<unused94>thought x<unused95>{CAPTION}",
    "answer tag": f"<think>x</think><answer>{CAPTION}</answer>",
    "thought last": f"{CAPTION}\n<think>Was that good?</think>",
    "box": f"<think>x</think><|begin_of_box|>{CAPTION}<|end_of_box|>",
}
WRAPPED = {
    "json": json.dumps(FIELDS),
    "json, negative first": json.dumps({"negative_prompt": NEGATIVE, "prompt": CAPTION}),
    "json with words": f"Sure! Here it is:\n{json.dumps(FIELDS, indent=2)}\nI hope that this helps!",
    "json fence": f"```json\n{json.dumps(FIELDS)}\n```",
    "json, nested": json.dumps({"result": {"video": {"caption": CAPTION, "negativePrompt": NEGATIVE}}}),
    "json, echo": json.dumps(
        {"original_prompt": PROMPT, "expanded_prompt": CAPTION, "notes": "I added light and dust."}
    ),
    "json, unknown name": json.dumps({"verfasst": CAPTION, "seed": 5, "Negative Prompt": NEGATIVE}),
    "json, list of one": json.dumps([{"caption": CAPTION}]),
    "json, text": json.dumps(CAPTION),
    "json, cut off": json.dumps(FIELDS)[:-12],
    "json, trailing comma": json.dumps(FIELDS)[:-1] + ",\n}",
    "fence": f"```\n{CAPTION}\n```",
    "fence with words": f"Here is your caption:\n\n```text\n{CAPTION}\n```\n\nLet me know if you want changes!",
    "fence, never closed": f"```\n{CAPTION}",
    "two fences": f"Prompt:\n```\n{CAPTION}\n```\nNegative prompt:\n```\n{NEGATIVE}\n```",
    "negative line": f"{CAPTION}\n\n**Negative prompt:** {NEGATIVE}",
    "negative block": f"Positive prompt: {CAPTION}\n\nNegative prompt:\n{NEGATIVE}\n",
    "negative first": f"Negative prompt: {NEGATIVE}\nPrompt: {CAPTION}",
    "negative in line": f"{CAPTION} Negative prompt: {NEGATIVE}",
    "label": f"**Expanded prompt:** {CAPTION}",
    "one option": f"Option 1: {CAPTION}",
    "heading": f"### Caption\n\n{CAPTION}",
    "quotes": f'"{CAPTION}"',
    "end mark": f"{CAPTION}<|im_end|>",
    "tag": f"<caption>{CAPTION}</caption>",
    "echo": f"<prompt>\n{PROMPT}\n</prompt>\n{CAPTION}",
}
REFUSED = {
    "options": f"Option 1: {CAPTION}\nOption 2: {OTHER}",
    "options in line": f"Option A: {CAPTION} Option B: {OTHER}",
    "bold options": f"**Option 1:**\n{CAPTION}\n\n**Option 2:**\n{OTHER}",
    "versions": f"Version 1 - {CAPTION}\n\nVersion 2 - {OTHER}",
    "numbered": f"1. {CAPTION}\n2. {OTHER}",
    "bullets": f"- {CAPTION}\n- {OTHER}",
    "paragraphs": f"{CAPTION}\n\n{OTHER}",
    "rule": f"{CAPTION}\n---\n{OTHER}",
    "german": f"Variante 1: {CAPTION}\nVariante 2: {OTHER}",
    "json list": json.dumps([CAPTION, OTHER]),
    "json list of objects": json.dumps([{"caption": CAPTION}, {"caption": OTHER}]),
    "json of versions": json.dumps({"version_1": CAPTION, "version_2": OTHER}),
    "fences": f"```\n{CAPTION}\n```\nor\n```\n{OTHER}\n```",
    "tags": f"<caption>{CAPTION}</caption>\n<caption>{OTHER}</caption>",
    "doubled": f"{CAPTION} {CAPTION}",
    "doubled lines": f"{CAPTION}\n\n{CAPTION}",
    "doubled without stops": f"{CAPTION[:-1]} {CAPTION[:-1]}",
    "only a negative": json.dumps({"negative_prompt": NEGATIVE}),
    "broken json": '{"prompt": "A shiny red ball',
    "endless thought": f"<think>They want a ball. {CAPTION}",
    "endless thought, kimi": "◁think▷The user wants a red ball that",
    "endless thought, gpt-oss": "<|channel|>analysis<|message|>The user wants a red ball that",
}


@pytest.mark.parametrize("name", [*THOUGHTS, *WRAPPED])
def test_the_caption_is_found_and_accepted_at_once(name):
    answer = (THOUGHTS | WRAPPED)[name]
    assert clean_answer(answer) == CAPTION
    asked = []
    result = expand(PROMPT, "model", language_model=lambda question: asked.append(question) or answer)
    assert (result.text, result.source, len(asked)) == (CAPTION, "model", 1), result.reason


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_single_caption_is_refused_with_the_reason(name):
    problem = unwrap(REFUSED[name]).problem
    assert problem
    result = expand(PROMPT, "model", language_model=lambda _: REFUSED[name])
    assert result.source == "offline"
    assert problem in result.reason


def test_the_reason_says_what_to_change():
    assert unwrap(REFUSED["endless thought"]).problem == THINKING
    assert "max_tokens" in THINKING
    assert unwrap(REFUSED["options"]).problem == SEVERAL
    assert unwrap(REFUSED["doubled"]).problem == TWICE


@pytest.mark.parametrize(
    "text",
    [
        "A man walks. The man stops. He looks back, and the man walks on.",
        "A car drives down Route 66. Soft light falls on 3. Avenue.",
        'A sign that says ["OPEN"] hangs over a door. A woman {in red} passes it.',
        "A street. Option 1 is written on a wall in the background, over an old door.",
        "Une affiche «Option 2: sortie» pend au mur d'une vieille maison.",
    ],
)
def test_an_ordinary_caption_stays_as_it_is(text):
    assert unwrap(text).problem == ""
    assert clean_answer(text) == text


def test_a_description_is_read_behind_any_thought_and_never_from_it():
    fields = {"subjects": ["a brown dog"], "paragraph": "A brown dog with a red collar runs along a path."}
    for begin, end in (
        ("<thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("", "</think>"),
    ):
        thought = f'{begin}Fields? {{"paragraph": "A cat sits on a mat all day."}}{end}'
        assert read_answer(thought + json.dumps(fields)).paragraph == fields["paragraph"]
    with pytest.raises(ValueError, match="max_tokens"):
        read_answer('<think>I will write {"paragraph": "A cat sits on a mat."}')


LONG = 1_000_000
MUCH = {
    text: text * (LONG // len(text))
    for text in (
        " ",
        "\n",
        "\n ",
        "<|",
        "<b ",
        "</",
        "#",
        "{",
        "[",
        '{"a":',
        "[1,",
        "```",
        "**a\n",
        "a.",
        "!",
        "1.",
        "7",
        "„",
        '"a',
        " 'a",
        "«",
        "万",
        "好",
        "一二三好",
        "\ud83d",
        "\x1b[",
        "<think>",
        "</think>",
        "<answer>",
        "Option 1: ",
        "negative prompt:\n",
        "a",
        "https://",
        "&#1",
        "ignore ",
        "- ",
        "1. a\n",
        "here is ",
        "camera ",
        "prompt : ",
        "a'",
        '"a":1,\n ',
        "😀",
        "a\u0301",
        "\u0300\u0323",
        "word ",
        "A red ball is here. ",
        "system : ",
    )
}
MUCH |= {
    "far apart": "a" + " " * LONG + "b",
    "number": "7" * LONG + " hundred",
    "accents": "a" + "\u0300\u0323" * (LONG // 2),
    "opener": "Sure " + " " * LONG + ":",
    "stop": "a" + "!" * LONG + "b",
}


@pytest.mark.parametrize("name", MUCH, ids=range(len(MUCH)))
def test_a_megabyte_of_anything_takes_no_time(name):
    """After a prompt, as an answer, as a description: what once took minutes takes a part of a second."""
    text = MUCH[name]
    begun = time.process_time()
    expand(f"a cat {text}")
    expand("a cat", "model", language_model=lambda _: f"A cat. {text}")
    verify("a cat", text), split_instructions(text[: LONG // 4])
    with suppress(ValueError):
        read_answer(f'{{"paragraph": "A cat.", {text}')
    assert time.process_time() - begun < 10, "it takes the square of the length"


def test_half_characters_are_joined_or_taken_out():
    assert whole_characters("\ud83d\ude00 \ud83d x \ude00") == "\U0001f600  x "
    for mode in ("offline", "model"):
        result = expand("a \ud83d cat \ude00", mode, language_model=lambda _: f"\ud83d A cat sits here. {CAPTION}")
        result.text.encode(), result.report().encode()
        assert "cat" in result.text


def test_a_long_value_is_not_repeated_whole():
    for settings in ({"mode": "x" * LONG}, {"style": "\ud83d" * LONG}, {"language": "z" * LONG}):
        with pytest.raises(ValueError, match="choose one of") as caught:
            expand("a cat", **settings)
        assert len(str(caught.value)) < 300
        str(caught.value).encode()
