"""Texts from outside made safe to work on: whole characters, bounded accents, no control characters.

Everything here takes time in proportion to the text, whatever is in it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

LONGEST = 20_000  # characters that are looked at; a caption of 400 words has 3 000
_ACCENTS = 8  # of one letter; sorting more takes the square of their number
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd\ud800-\udfff"
CONTROL = re.compile(f"[{_CONTROL}]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> str:
    """The text with halves of characters (lone surrogates) joined where two belong together, and else taken out."""
    if not _SURROGATES.search(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\ufffd", "")


def normal_form(form: Literal["NFC", "NFD", "NFKD"], text: str) -> str:
    """`unicodedata.normalize` in linear time: of a pile of accents on one letter, only the first few are kept."""
    if text.isascii():
        return text
    if not any(map(unicodedata.combining, set(text))):
        return unicodedata.normalize(form, text)
    kept, pile = [], 0
    for sign in text:
        pile = pile + 1 if unicodedata.combining(sign) else 0
        if pile <= _ACCENTS:
            kept.append(sign)
    return unicodedata.normalize(form, "".join(kept))


def without_control(text: str) -> str:
    """The text without control, zero-width and direction characters, with single spaces; joined emoji stay whole."""
    text = normal_form("NFC", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", whole_characters(text)))
    return re.sub(r"\s+", " ", CONTROL.sub("", re.sub(r"[\t\n\r\x0b\x0c\x85]", " ", text))).strip()
