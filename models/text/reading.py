"""Read a prompt word by word: language, sentences, clauses, and what each word is (number, colour, negation, verb)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from . import lexicon
from .cleaning import normal_form
from .numerals import CHINESE_NUMERAL, DIGITS, number_at, number_words, value_of_chinese

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SENTENCE_ENDS = ".!?\u3002\uff01\uff1f\u2026"
_CLAUSE_ENDS = _SENTENCE_ENDS + ",;:()[]|\u3001\uff0c\uff1b\uff1a"
_WORD = re.compile(
    rf"(?P<chinese>[{CJK}]+)|(?P<number>\d+(?:[.,]\d+){{0,8}}(?![^\W_]))|(?P<word>(?:(?![{CJK}])[^\W_])+"
    rf"(?:['’](?:(?![{CJK}])[^\W_])+)*)|(?P<mark>[^\w\s])"
)
# number signs that are parts of ordinary words
_NOT_NUMBERS = re.compile(
    "十分|一起|一直|一样|一边|一些|一切|一般|一定|一致|万物|三明治|四周|四处|统一|千万别|第一次|一[个只条头匹辆座棵朵位名张片颗艘架群]"
)
_ELISION = re.compile(r"\b([ldnjcsmt]|qu)['’](?=\w)", re.IGNORECASE)  # l'homme is two words
_HINTS = {"de": "äöüß", "es": "ñ¿¡áíóú", "fr": "çèêëîïôœûàâù"}


@dataclass(frozen=True)
class Word:
    """One word of a text. form: as `fold` makes it; sentence, clause: which one; begins: first word of a sentence."""

    raw: str
    form: str
    sentence: int
    clause: int
    begins: bool
    kind: str = "content"  # or "stop", "verb", "adverb", "number", "colour", "negation"
    value: str = ""  # of a number or a colour


@dataclass(frozen=True)
class Reading:
    """A text as words, in the language that most of them seem to be."""

    text: str
    language: str
    words: tuple[Word, ...]


def fold(word: str) -> str:
    """Lower case, without accents and umlaut dots: "Grüße" -> "grusse"."""
    decomposed = normal_form("NFKD", word.casefold())
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign)).replace("’", "'")


def language_of(text: str) -> str:
    """en, de, es, fr or zh; "other" for scripts that the tables do not know. Latin text without hints is English."""
    text = text[:4000]
    chinese = len(re.findall(f"[{CJK}]", text))
    letters = [sign for sign in text if sign.isalpha()]
    latin = sum(sign < "\u0250" for sign in letters)
    if chinese and 2 * chinese >= latin / 2:
        return "zh"
    if letters and latin < len(letters) / 2:
        return "other"
    forms = [fold(found) for found in re.findall(r"[^\W\d_]+(?:['’]\w+)?", text)]
    scores = {"en": 0.2, "de": 0.0, "es": 0.0, "fr": 0.0}
    for language in scores:
        known = lexicon.STOPWORDS[language] | lexicon.VERBS[language] | lexicon.NEGATIONS[language]
        colours = lexicon.colours()[language]
        numbers = number_words(language)
        scores[language] += sum(form in known or form in colours or form in numbers for form in forms)
        scores[language] += 0.7 * sum(sign in _HINTS.get(language, "") for sign in text.lower())
    return max(scores, key=lambda language: scores[language])


def count_words(text: str) -> int:
    """Words; two Chinese characters count as one."""
    chinese = len(re.findall(f"[{CJK}]", text))
    return len(re.findall(rf"(?:(?![{CJK}])[^\W_])+(?:['’]\w+)*", text)) + (chinese + 1) // 2


@lru_cache(maxsize=256)
def read(text: str, language: str = "") -> Reading:
    """Take a text apart. language: as `language_of` says when it is not given."""
    text = normal_form("NFC", text)
    language = language or language_of(text)
    words: list[Word] = []
    sentence, clause, begins = 0, 0, True
    for found in _WORD.finditer(_ELISION.sub(r"\1 ", text) if language == "fr" else text):
        raw = found.group()
        if found.lastgroup == "mark":
            sentence += raw in _SENTENCE_ENDS
            clause += raw in _CLAUSE_ENDS
            begins = begins or raw in _SENTENCE_ENDS
            continue
        pieces = _split_chinese(raw) if found.lastgroup == "chinese" else [Word(raw, fold(raw), 0, 0, False)]
        for piece in pieces:
            form = piece.form.removesuffix("'s")
            words.append(Word(piece.raw, form, sentence, clause, begins, piece.kind, piece.value))
            begins = False
    return Reading(text, language, tuple(_classify(words, language)))


def _split_chinese(run: str) -> list[Word]:
    """Cut a run of characters at the words that the tables know; what is left between them is one content word."""
    pieces: list[Word] = []
    start = rest = 0
    while start < len(run):
        length, kind, value = _chinese_word(run, start)
        if not length:
            start += 1
            continue
        if rest < start:
            pieces.append(Word(run[rest:start], run[rest:start], 0, 0, False))
        pieces.append(Word(run[start : start + length], run[start : start + length], 0, 0, False, kind, value))
        start = rest = start + length
    if rest < len(run):
        pieces.append(Word(run[rest:], run[rest:], 0, 0, False))
    return pieces


def _chinese_word(run: str, start: int) -> tuple[int, str, str]:
    """The longest known word at this place: its length, kind and value."""
    if plain := _NOT_NUMBERS.match(run, start):
        return len(plain.group()), "stop", ""
    if number := CHINESE_NUMERAL.match(run, start):
        # alone it is the article
        return len(number.group()), "stop" if number.group() == "一" else "number", value_of_chinese(number.group())
    for length in (4, 3, 2, 1):
        piece = run[start : start + length]
        if piece in lexicon.colours()["zh"]:
            return length, "colour", lexicon.colours()["zh"][piece]
        for kind, table in (("negation", lexicon.NEGATIONS), ("stop", lexicon.STOPWORDS), ("verb", lexicon.VERBS)):
            if piece in table["zh"]:
                return length, kind, ""
    return 0, "", ""


def _classify(words: list[Word], language: str) -> list[Word]:
    """Say of each word what it is."""
    forms = [word.form for word in words]
    result: list[Word] = []
    index = 0
    while index < len(words):
        word = words[index]
        if word.kind != "content" or word.form[0] >= "\u3400":
            result.append(word)
            index += 1
            continue
        value, taken = number_at(forms, index, language)
        inside = all(other.clause == word.clause for other in words[index : index + taken])
        if value and not inside:
            value, taken = number_at(forms[: index + 1], index, language)
        if value and not (word.form == "one" and index and forms[index - 1] in {"no", "this", "that", "each", "any"}):
            raw = " ".join(other.raw for other in words[index : index + taken])
            joined = " ".join(forms[index : index + taken])
            result.append(Word(raw, joined, word.sentence, word.clause, word.begins, "number", value))
            index += taken
            continue
        kind, value = _kind(word, result[-1] if result else None, language)
        result.append(Word(word.raw, word.form, word.sentence, word.clause, word.begins, kind, value))
        index += 1
    return result


def _kind(word: Word, before: Word | None, language: str) -> tuple[str, str]:
    form, tables = word.form, lexicon
    if form in tables.NEGATIONS.get(language, ()):
        return "negation", ""
    colour = tables.colours().get(language, {}).get(form)
    if colour:
        return "colour", colour
    if form in tables.STOPWORDS.get(language, ()) or (len(form) == 1 and not form.isdigit()):
        return "stop", ""
    # "a dance", "the red glow": after an article or a colour even a verb's form is a noun
    as_noun = before is not None and before.clause == word.clause and _leads_to_noun(before, language)
    verbs = tables.VERBS.get(language, frozenset())
    if not as_noun and (form in verbs or (language == "en" and stems(form, "en") & verbs)):
        return "verb", ""
    if language == "en" and not as_noun and len(form) > 4 and form.endswith("ly") and form not in tables.NOT_ADVERBS:
        return "adverb", ""
    return "content", ""


_ARTICLES = lexicon.table(
    en="a an the this that these those my your his her its our their of with",
    de="der die das den dem des ein eine einen einem einer eines mit von vom zum zur",
    es="el la los las un una unos unas del al de con su sus",
    fr="le la les l un une des du de d au aux avec son sa ses",
)


def _leads_to_noun(before: Word, language: str) -> bool:
    attribute = before.kind == "number" or (before.kind == "colour" and language not in ("es", "fr"))
    return attribute or before.form in _ARTICLES.get(language, ())


_ENDINGS = {
    "en": ("s", "es", "ed", "d", "ing", "y", "er"),
    "de": ("ernen", "enden", "ende", "ern", "end", "em", "en", "er", "es", "et", "st", "te", "e", "n", "s", "t"),
    "es": ("es", "as", "os", "s", "a", "o", "e"),
    "fr": ("es", "e", "s", "x", "ent"),
}


@lru_cache(maxsize=8192)
def stems(form: str, language: str) -> frozenset[str]:
    """What may remain of a word without its endings; two words are the same when they share one."""
    if language == "en":
        form = lexicon.IRREGULAR.get(form, form)
    found = {form}
    for ending in _ENDINGS.get(language, ()):
        stem = form.removesuffix(ending)
        if stem == form or len(stem) < 3:
            continue
        found.add(stem)
        if language == "en" and ending in {"ed", "ing", "er", "y"}:
            found.add(stem + "e")
            if stem[-1] == stem[-2]:
                found.add(stem[:-1])  # running -> run
        if language == "en" and ending in {"es", "ed", "er"} and stem.endswith("i"):
            found.add(stem[:-1] + "y")  # cities -> city
    return frozenset(found)


def same_word(one: str, other: str, language: str) -> bool:
    """Whether two folded words are forms of one, or mean the same."""
    if language == "other":
        shared = max(3, len(one) - 3)
        return one == other or (len(one) > 3 and one[:shared] == other[:shared])
    first, second = stems(one, language), stems(other, language)
    if first & second:
        return True
    if language == "de" and len(one) > 3 and any(other.endswith(stem) for stem in first if len(stem) > 3):
        return True  # Sandstrand is a Strand
    return language == "en" and any(group & first and group & second for group in lexicon.SYNONYMS)


def is_number(form: str) -> bool:
    """Whether a word is digits only."""
    return DIGITS.fullmatch(form) is not None
