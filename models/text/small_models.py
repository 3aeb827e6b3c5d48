"""Expansion with a language model that is too small to rewrite a prompt.

It is never shown as the author of what the user said: the prompt stays as it is. The model only names what the prompt
leaves open, one thing at a time (where, in which light), with answered examples before its eyes. Each answer is
checked by itself; what it cannot give comes from the offline grammar, as do camera and style.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

from ..files import read_json
from . import lexicon
from .answers import unwrap
from .camera import mentions_camera
from .faults import find_faults, split_instructions
from .interface import LanguageModel, Question
from .offline import additions, is_stated, join
from .reading import Reading, count_words, read, same_word, stems
from .verification import facts, verify

TRIES = 5
TOKENS = 24
LONGEST = 16  # words of one answer
_LIGHT = re.compile(
    r"\b(?:\w*light\w*|sun\w*|moon\w*|lamps?|lanterns?|candles?|fire|flames?|glow\w*|shine|shadows?|dawn|dusk|neon|"
    r"rays?|beams?|daytime|twilight|lightning|bulbs?)\b",
    re.IGNORECASE,
)
_NOT_LIGHT = re.compile(r"\b(?:darkness|traffic lights?|light ?house)\b", re.IGNORECASE)
# a prompt that says where: a preposition of place before a thing
_PLACE = re.compile(
    r"\b(?:in|on|at|along|over|through|above|across|under|below|inside|into|onto|near|by|beside|behind|around|down|past|"
    r"off|beyond|between|against|next to|in front of|outside|indoors|outdoors|underwater)\b"
    r"(?! (?:the )?(?:left|right)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Addition:
    """One sentence after the prompt. by_model: else from the grammar. problem: why not by the model, where asked."""

    field: str
    sentence: str
    by_model: bool
    problem: str = ""


@lru_cache
def _fields() -> dict[str, Any]:
    loaded: dict[str, Any] = read_json(Path(__file__).parent / "prompts" / "small.json", dict)
    return loaded


def asked_fields(prompt: str) -> list[str]:
    """What a prompt leaves open that a small model is asked for: background, light."""
    video = split_instructions(prompt)[0]
    place = _PLACE.search(video) is not None or _has("places", read(video, "en")) or is_stated("background", video)
    return [name for name, told in (("background", place), ("light", is_stated("light", video))) if not told]


def small_additions(model: LanguageModel, prompt: str, style: str, seed: int) -> list[Addition]:
    """The sentences that follow an English prompt, in the order background, light, then the rest of the style."""
    offline = dict(additions(prompt, style, seed))
    asked = asked_fields(prompt)
    order = list(dict.fromkeys([*(name for name in offline if name in {"detail", "motion"}), *asked, *offline]))
    found: list[Addition] = []
    for name in order:
        phrase, problem = _ask(model, prompt, name, seed) if name in asked else ("", "")
        if phrase:
            found.append(Addition(name, Template(_fields()[name]["sentence"]).substitute(phrase=phrase), True))
        elif name in offline or problem:
            found.append(Addition(name, offline.get(name, ""), False, problem))
    return found


def _ask(model: LanguageModel, prompt: str, name: str, seed: int) -> tuple[str, str]:
    """(answer, "") or ("", what was wrong with the last one). Errors of the model are the caller's."""
    field = _fields()[name]
    video = split_instructions(prompt)[0]
    examples = tuple((said, answered) for said, answered in field["examples"])
    problem = ""
    for attempt in range(TRIES):
        answer = model(Question(field["instruction"], video, seed + attempt, TOKENS, examples=examples))
        found = unwrap(answer)
        phrase = _phrase(found.text)
        problem = found.problem or next(_problems(phrase, name, video), "")
        if not problem:
            return phrase, ""
    return "", problem


def _has(kind: str, reading: Reading) -> bool:
    """Whether a text has a word of a table of `lexicon.english`."""
    forms = [word.form for word in reading.words if word.kind != "stop"]
    return any(lexicon.english(kind) & stems(form, "en") for form in forms)


def _phrase(answer: str) -> str:
    """The first sentence of an answer, without its full stop and its capital."""
    text = re.split(r"(?<=[\w)])[.!?](?:\s|$)", answer, maxsplit=1)[0].strip(" .,;:!")
    return text[:1].lower() + text[1:] if re.match(r"[A-Z][a-z]* [a-z]|[A-Z][a-z]*$", text) else text


def _problems(phrase: str, name: str, video: str) -> Iterator[str]:
    """Why a phrase is not to follow this prompt, in plain words."""
    reading = read(phrase, "en")
    kinds = {word.kind for word in reading.words}
    told = [fact for fact in facts(video) if fact.kind in {"word", "mention", "name"}]
    own = [word for word in reading.words if any(same_word(fact.value, word.form, "en") for fact in told)]
    whole = join(video, [Template(_fields()[name]["sentence"]).substitute(phrase=phrase)])
    if not 2 <= count_words(phrase) <= LONGEST:
        yield "it is too short or too long"
    if not re.fullmatch(r"[A-Za-z][A-Za-z ,'’-]*", phrase):
        yield "it is no plain phrase"
    if phrase.lower() in {answer.rstrip(".").lower() for _, answer in _fields()[name]["examples"]}:
        yield "it repeats an example"
    if kinds & {"number", "colour", "negation"}:
        yield "it brings a number, a colour or a negation along"
    if _has("beings", reading):
        yield "it brings someone along"
    if own and (name == "background" or 2 * len(own) > sum(word.kind == "content" for word in reading.words)):
        yield "it repeats your words"
    if name == "light" and (not _LIGHT.search(phrase) or _NOT_LIGHT.search(phrase)):
        yield "it names no light"
    if name == "background" and (not _has("places", reading) or re.search(r"\b(?:is|are|was|were|that|who)\b", phrase)):
        yield "it names no place"
    if mentions_camera(phrase):
        yield "it talks about the camera"
    yield from find_faults(whole, video)
    verdict = verify(video, whole)
    if not verdict.ok:
        yield verdict.reason()
