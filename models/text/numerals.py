"""Numbers in prompts: digits, and words in English, German, Spanish, French and Chinese, all as one plain value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_GERMAN = (
    "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_GERMAN_TENS = "zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig"
_SPANISH = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidos veintitres veinticuatro veinticinco veintiseis veintisiete "
    "veintiocho veintinueve"
)
_SPANISH_TENS = "treinta cuarenta cincuenta sesenta setenta ochenta noventa"
_FRENCH = "zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
_FRENCH_TENS = "vingt trente quarante cinquante soixante"
_FACTORS = {
    "en": {"hundred": 100, "hundreds": 100, "thousand": 1000, "thousands": 1000, "million": 10**6, "dozen": 12},
    "de": {"hundert": 100, "tausend": 1000, "million": 10**6, "millionen": 10**6, "dutzend": 12},
    "es": {"cien": 100, "ciento": 100, "cientos": 100, "mil": 1000, "millon": 10**6, "millones": 10**6, "docena": 12},
    "fr": {"cent": 100, "cents": 100, "mille": 1000, "million": 10**6, "millions": 10**6, "douzaine": 12},
}
CHINESE_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_CHINESE_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 10**8}
CHINESE_NUMERAL = re.compile(f"[{''.join([*CHINESE_DIGITS, *_CHINESE_UNITS])}]{{1,24}}")
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
_LONGEST = 4  # words in "quatre vingt dix sept"


@lru_cache
def number_words(language: str) -> dict[str, int]:
    """Phrases of single spaced, accent-free lower case words to values below a hundred; articles are left out."""
    if language == "en":
        return _with_tens(_ENGLISH, _ENGLISH_TENS, 20, "{tens} {one}") | {"single": 1, "lone": 1}
    if language == "de":
        table = _with_tens(_GERMAN, _GERMAN_TENS, 20, "{one}und{tens}")
        ones = {f"einund{tens}": 21 + 10 * i for i, tens in enumerate(_GERMAN_TENS.split())}
        return table | ones
    if language == "es":
        return _with_tens(_SPANISH, _SPANISH_TENS, 30, "{tens} y {one}")
    if language == "fr":
        return _french()
    return {}


def _with_tens(ones: str, tens: str, first: int, compound: str) -> dict[str, int]:
    small = ones.split()
    table = {word: value for value, word in enumerate(small)}
    for index, ten in enumerate(tens.split()):
        value = first + 10 * index
        table[ten] = value
        table |= {compound.format(tens=ten, one=small[one]): value + one for one in range(1, 10)}
    return table


def _french() -> dict[str, int]:
    small = _FRENCH.split()
    teens = [*small, "dix sept", "dix huit", "dix neuf"]
    table = {word: value for value, word in enumerate(teens)}
    for index, ten in enumerate(_FRENCH_TENS.split()):
        value = 20 + 10 * index
        table[ten] = value
        table |= {f"{ten} {small[one]}": value + one for one in range(2, 10)} | {f"{ten} et un": value + 1}
    table |= {f"soixante {teens[one]}": 60 + one for one in range(10, 20)} | {"soixante et onze": 71}
    table |= {f"quatre vingt {teens[one]}": 80 + one for one in range(1, 20)}
    table |= {"quatre vingts": 80, "quatre vingt": 80}
    del table["un"]  # the article
    return table


def value_of_digits(token: str) -> str:
    """ "10,000" -> "10000", "3,5" -> "3.5", "007" -> "7"."""
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", token):
        token = re.sub(r"[.,]", "", token)
    whole, _, rest = token.replace(",", ".").partition(".")
    fraction = rest.replace(".", "").rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def value_of_chinese(token: str) -> str:
    """ "二十三" -> "23", "两百" -> "200", "二零二四" -> "2024"."""
    if not any(sign in _CHINESE_UNITS for sign in token):
        return "".join(str(CHINESE_DIGITS[sign]) for sign in token).lstrip("0") or "0"
    total, section, digit = 0, 0, 0
    for sign in token:
        if sign in CHINESE_DIGITS:
            digit = CHINESE_DIGITS[sign]
            continue
        unit = _CHINESE_UNITS[sign]
        if unit >= 10_000:
            total, section = (total + section + (digit or 0) or 1) * unit, 0
        else:
            section += (digit or 1) * unit
        digit = 0
    return str(total + section + digit)


def number_at(forms: Sequence[str], start: int, language: str) -> tuple[str, int]:
    """The value of the number that begins at this word and how many words it takes; ("", 0) where there is none."""
    table, factors = number_words(language), _FACTORS.get(language, {})
    form = forms[start]
    if DIGITS.fullmatch(form):
        value, taken = value_of_digits(form), 1
    else:
        for taken in range(min(_LONGEST, len(forms) - start), 0, -1):
            found = table.get(" ".join(forms[start : start + taken]))
            if found is not None:
                value = str(found)
                break
        else:
            return (str(factors[form]), 1) if form in factors else ("", 0)
    after = start + taken
    if after < len(forms) and forms[after] in factors and value.isdigit() and len(value) < 100:
        return str(int(value) * factors[forms[after]]), taken + 1
    return value, taken
