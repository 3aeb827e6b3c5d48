"""The offline expansion: the user's words as they are, then what they leave open, in the field order of the training
captions (subjects with attributes, actions in time order, background, camera, style). It needs no model and no time.
"""

from __future__ import annotations

import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..files import read_json
from . import lexicon
from .camera import camera_moves, mentions_camera
from .faults import split_instructions
from .reading import Reading, fold, language_of, read, stems

_TOY_SETTINGS = {("gray", "floor"), ("grey", "floor"), ("beige", "floor"), ("blue", "sky"), ("orange", "sky")}
# what each style adds, in order; "_cinematic" picks that variant of a field
FIELDS = {
    "plain": ("background", "camera", "style"),
    "cinematic": ("background", "light", "camera_cinematic", "style_cinematic"),
    "wan": ("motion", "background", "light", "camera", "style"),
    "hunyuan": ("detail", "motion", "background", "light", "camera", "style"),
    "ltx": ("motion", "detail", "background", "light", "camera", "style"),
}


@lru_cache
def _stated(field: str) -> re.Pattern[str]:
    """What a prompt says when it has spoken of a field already, over folded text."""
    return re.compile("|".join(_table("stated.json")[field]))


def is_stated(field: str, prompt: str) -> bool:
    """Whether a prompt has spoken of background, light, style, motion or detail already."""
    return _stated(field).search(fold(prompt)) is not None


@lru_cache
def _table(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = read_json(Path(__file__).parent / "tables" / name, dict)
    return loaded


def additions(prompt: str, style: str = "plain", seed: int = 0) -> list[tuple[str, str]]:
    """(field, sentence) for each field that the prompt leaves open, in the style's order.

    Nothing is added that could contradict the prompt: no colour, no number, no second camera move. A prompt about the
    toy world's things gets the very sentences that the embedded model was trained on.
    """
    video, _ = split_instructions(prompt)
    language = language_of(video)
    chance = random.Random(f"{seed}:{prompt}")  # a seed of its own: the same words give the same caption everywhere
    if not video or language not in _table("phrases.json"):
        return []
    reading = read(video, language)
    if language == "en" and style == "plain" and is_toy_prompt(reading):
        return _toy_additions(video, chance)
    found = []
    for name in FIELDS[style]:
        field = name.split("_")[0]
        stated = mentions_camera(video) if field == "camera" else is_stated(field, video)
        if not stated:
            found.append((field, chance.choice(_table("phrases.json")[language][name])))
    return found


def join(prompt: str, sentences: list[str]) -> str:
    """The prompt, closed by a full stop where it has none, and the sentences after it."""
    if not sentences:
        return prompt
    chinese = language_of(prompt) == "zh"
    closed = re.search(r"[.!?…\u3002\uff01\uff1f][\"'”’»」)]*$", prompt) is not None
    head = prompt.rstrip(",;: \uff0c") + ("" if closed else "\u3002" if chinese else ".")
    return ("" if chinese else " ").join([head, *sentences])


@lru_cache
def _toy_words() -> tuple[frozenset[str], frozenset[str]]:
    """(words for shapes, all content words) of the toy world's captions, without endings."""
    from ..toyworld import wordings

    shapes = [
        word for table in (wordings.SHAPE_WORDS, wordings.SHAPE_WORDS_HELD_OUT) for o in table.values() for word in o
    ]
    tables = (
        wordings.COLOUR_WORDS,
        wordings.COLOUR_WORDS_HELD_OUT,
        wordings.TEMPLATES,
        wordings.TEMPLATES_HELD_OUT,
        wordings.BESIDE,
        wordings.FLOOR_WORDS,
        wordings.SKY_WORDS,
    )
    texts = [*shapes, *wordings.BIG, *wordings.SMALL, *(text for table in tables for o in table.values() for text in o)]
    known = {stem for form in re.findall(r"[a-z]+", " ".join(texts).lower()) for stem in stems(form, "en")}
    nouns = {name.split()[-1] for names in wordings.SHAPE_WORDS.values() for name in names} | {"orb"}
    return frozenset(stem for noun in nouns for stem in stems(noun, "en")), frozenset(
        known
    ) | wordings.COLOUR_WORDS.keys()


def is_toy_prompt(reading: Reading) -> bool:
    """Whether a prompt names a shape of the toy world and, but for colours, nothing that is not in it."""
    shapes, known = _toy_words()
    told = [stems(word.form, "en") for word in reading.words if word.kind in {"content", "verb"}]
    return any(word & shapes for word in told) and all(word & known for word in told)


def _toy_additions(video: str, chance: random.Random) -> list[tuple[str, str]]:
    from ..toyworld import wordings

    found = []
    setting = _toy_setting(video)
    if setting:
        floor, sky = setting
        colours = lexicon.colours()["en"]
        given = {colours[word] for word in _words(video) if word in colours}
        skies = [o for o in wordings.SKY_SENTENCES[sky] if {colours[w] for w in _words(o) if w in colours} <= given]
        found.append(("background", f"The background is {wordings.FLOOR_SENTENCES[floor]} {chance.choice(skies)}."))
    if "orbit" in camera_moves(video):
        found.append(("camera", "The camera orbits around the scene."))
    elif not mentions_camera(video):
        found.append(("camera", chance.choice(("The camera is static.", "The camera does not move."))))
    return [*found, ("style", chance.choice(wordings.STYLES))]


def _toy_setting(video: str) -> tuple[str, str] | None:
    """(floor, sky) as the prompt says, else the usual ones; None when it wants one that the toy world has not."""
    text = fold(video)
    for colour, thing in re.findall(r"\b(\w+)(?: checkered| sunset| night)? (floor|ground|sky)\b", text):
        if colour in lexicon.colours()["en"] and (colour, thing) not in _TOY_SETTINGS:
            return None
    floor = re.search(r"\b(gray|grey|dark)\b(?: checkered)? (?:floor|ground)", text)
    sky = "night" if "night" in text else "sunset" if re.search(r"sunset|evening|orange sky", text) else "day"
    return {"gray": "gray", "grey": "gray", "dark": "dark", "": "sandy"}[floor.group(1) if floor else ""], sky


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
