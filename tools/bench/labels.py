"""What a person says must survive of each prompt of tests/data/prompts.json, and whether a text still says it.

tests/data/kept.json holds, by prompt, `keep`: the things that must be there; `never`: what must not be said beside the
prompt's own words; `alone`: that nothing may be added. A thing is written in the forms that are accepted, with " | "
between; a form is words next to each other, of which each may be one of several ("red ball/sphere"), with room for one
more word between them, as in "a red rubber ball". "=OPEN" must stand there sign by sign. It knows no grammar and no
tables of words: a form that nobody wrote down counts as lost.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...models.files import read_json
from ...models.text.cleaning import without_control

LABELS = Path(__file__).resolve().parents[2] / "tests" / "data" / "kept.json"
ENDLESS = "word " * 10_000
_CJK = re.compile("[\u3400-\u9fff]")
# what makes two things of one: "a red cube and a ball" is no red ball
_BETWEEN = "and|or|a|an|the|und|oder|ein|eine|einen|einem|y|o|un|una|et|ou|une|without|no|not|ohne|sin|sans"
_GAP = rf"[\s-]+(?:(?!(?:{_BETWEEN})\s)[^\W_]+(?:['-][^\W_]+)*\s+)?"


@lru_cache
def labels() -> dict[str, dict[str, Any]]:
    """The labels by prompt; the one without end is to be left alone."""
    return {**read_json(LABELS, dict), ENDLESS: {"alone": True, "keep": []}}


def lost(prompt: str, text: str) -> list[str]:
    """What a text lacks of the labels of a prompt, has against them, or adds where nothing may be added."""
    label, clean = labels()[prompt], without_control(prompt)
    if label.get("alone"):
        return [] if text == clean else ["it was to be left alone"]
    gone = [thing for thing in label["keep"] if not said(thing, text)]
    beside = text.removeprefix(clean)
    return [*gone, *(f"not: {thing}" for thing in label.get("never", ()) if said(thing, beside))]


def said(thing: str, text: str) -> bool:
    """Whether a text says a thing in one of its forms."""
    return any(pattern.search(_plain(text) if plain else text) for pattern, plain in _patterns(thing))


def without(thing: str, text: str, instead: str = "") -> str:
    """The text with every form of a thing taken out, or with other words instead."""
    for pattern, plain in _patterns(thing):
        text = pattern.sub(instead, _plain(text) if plain else text)
    return text


@lru_cache(maxsize=1024)
def _patterns(thing: str) -> list[tuple[re.Pattern[str], bool]]:
    """(pattern, whether over plain text) for each form."""
    return [_pattern(form.strip()) for form in thing.split(" | ")]


def _pattern(form: str) -> tuple[re.Pattern[str], bool]:
    if form.startswith("="):
        return re.compile(re.escape(form[1:])), False
    words = ["|".join(map(re.escape, _plain(word).split("/"))) for word in form.split()]
    if _CJK.search(form):
        return re.compile("".join(f"(?:{word})" for word in words)), True
    return re.compile(_GAP.join(rf"(?<![^\W_])(?:{word})(?![^\W_])" for word in words)), True


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("’", "'").casefold()
