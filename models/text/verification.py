"""Does a rewritten prompt still say what its author said?

`facts` lists what must survive; `verify` compares a caption with them. The check is lexical and errs on the strict
side: a good caption refused costs a retry, a wrong one accepted costs the user a wrong video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..remedies import cut
from . import lexicon
from .camera import other_camera_moves
from .cleaning import LONGEST
from .faults import find_faults, obeyed, split_instructions
from .reading import Reading, Word, fold, language_of, read, same_word

Kind = Literal["word", "name", "mention", "number", "colour", "quote", "negation", "attribute"]
QUOTES = re.compile(
    '"([^"]{1,300})"|“([^“”]{1,300})”|„([^„“”]{1,300})[“”]|«\\s?([^«»]{1,300}?)\\s?»|「([^「」]{1,300})」|『([^『』]{1,300})』|'
    "(?<!\\w)'([^']{2,300})'(?!\\w)|‘([^‘’]{2,300})’(?!\\w)"
)
_NOBODY = {"nothing", "nobody", "none", "niemand", "nichts", "nadie", "nada", "personne", "rien"}
NEAR = 5  # words between a number or colour and the noun that it belongs to
# words about the wish itself; a caption need not repeat them
_PRAISE = lexicon.table(
    en="beautiful amazing stunning awesome nice great best quality masterpiece highly detailed ultra hd really thing",
    de="schon schone schones schoner wunderschon toll tolle beste qualitat",
    es="hermoso hermosa bonito bonita increible mejor calidad",
    fr="beau belle magnifique superbe meilleure qualite",
    zh="美丽 漂亮 高清 高质量",
)


@dataclass(frozen=True)
class Fact:
    """One thing that the prompt says. shown: in the user's words; value: canonical; of: the noun it belongs to."""

    kind: Kind
    shown: str
    value: str
    of: str = ""


@dataclass(frozen=True)
class Verdict:
    """missing: left out. contradicted: said differently. faults: why it is no caption at all. unchecked: not followed
    into the other language."""

    missing: tuple[str, ...] = ()
    contradicted: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the caption may be used."""
        return not (self.missing or self.contradicted or self.faults)

    def reason(self) -> str:
        """What is wrong in one sentence; empty when nothing is."""
        parts = [*self.faults, *self.contradicted]
        if self.missing:
            shown = ", ".join(cut(one, 40) for one in self.missing[:8]) + (", ..." if len(self.missing) > 8 else "")
            parts.append(f"it leaves out {shown}")
        return "; ".join(parts)


def facts(prompt: str) -> tuple[Fact, ...]:
    """What a rewritten prompt must still say. Sentences that give orders to a language model count for nothing."""
    return tuple(dict.fromkeys(_facts(split_instructions(prompt[:LONGEST])[0])))


def _facts(video: str) -> Iterator[Fact]:
    for quote in quotes(video):
        yield Fact("quote", f'"{quote}"', quote)
    reading = read(QUOTES.sub(" , ", video))
    names = set(_names(reading))
    scopes = {index: _scope(reading, index) for index, word in enumerate(reading.words) if word.kind == "negation"}
    denied = {scope.form for scope in scopes.values() if scope}
    for index, word in enumerate(reading.words):
        if word.kind == "negation":
            scope = scopes[index]
            yield Fact(
                "negation", f"{word.raw} {scope.raw}" if scope else word.raw, word.form, scope.form if scope else ""
            )
        elif word.kind in {"number", "colour"}:
            kind: Literal["number", "colour"] = "number" if word.kind == "number" else "colour"
            yield Fact(kind, word.raw, word.value)
            noun = _noun_of(reading, index)
            if noun:
                yield Fact("attribute", f"{word.raw} {noun.raw}", f"{kind} {word.value}", noun.form)
        elif word.raw in names:
            yield Fact("name", word.raw, word.form)
        elif word.kind == "content" and word.form not in denied | _PRAISE.get(reading.language, frozenset()):
            yield Fact("mention" if _negated(reading, index) else "word", word.raw, word.form)


def quotes(text: str) -> list[str]:
    """Texts between quotation marks, with single spaces."""
    return [" ".join(next(part for part in found if part).split()) for found in QUOTES.findall(text)]


def _names(reading: Reading) -> Iterator[str]:
    """Capitalised words inside a sentence; in German, and where every word is capitalised, they are just nouns."""
    inside = [word for word in reading.words if not word.begins and word.raw[0].isalpha() and word.raw[0] < "\u3400"]
    capital = [word.raw for word in inside if word.raw[0].isupper() and word.raw not in {"I", "I'm"}]
    if reading.language != "de" and len(capital) < max(2, 0.7 * len(inside)):
        yield from (raw for raw in capital if not re.fullmatch(r"[A-Z]", raw))


def _scope(reading: Reading, index: int) -> Word | None:
    """What a negation is about: the next content word of its clause, else the one before it, else a verb."""
    words, clause = reading.words, reading.words[index].clause
    after = [word for word in words[index + 1 : index + 6] if word.clause == clause and word.kind != "stop"]
    before = [word for word in words[max(0, index - 4) : index] if word.clause == clause and word.kind != "stop"]
    nouns = [word for word in after if word.kind == "content"]
    others = [word for word in (*after, *reversed(before)) if word.kind in {"content", "verb", "adverb"}]
    return next(iter([*nouns, *others]), None)


def _noun_of(reading: Reading, index: int) -> Word | None:
    """The noun that a number or colour stands at: the last content word of the run after it (es, fr: also before)."""
    words, home = reading.words, reading.words[index]
    noun = None
    for word in words[index + 1 : index + 5]:
        if word.clause != home.clause or word.kind not in {"content", "colour", "number"}:
            # Chinese measure words stand between: 三 只 小猫
            if reading.language == "zh" and noun is None and word.kind == "stop" and word.clause == home.clause:
                continue
            break
        if word.kind == "content":
            noun = word
            if reading.language in {"es", "fr", "zh"}:
                break
    if reading.language in {"es", "fr"} and home.kind == "colour":
        before = words[index - 1] if index else None
        noun = before if before and before.clause == home.clause and before.kind == "content" else noun
    return noun


def verify(prompt: str, caption: str, instruction: str = "", max_words: int = 400) -> Verdict:
    """Compare a caption with the prompt it was made from. instruction: what the language model was told."""
    faults = list(find_faults(caption, prompt, instruction, max_words))
    prompt, caption = prompt[:LONGEST], caption[:LONGEST]
    video, orders = split_instructions(prompt)
    telltale = obeyed(caption, video, orders) if orders else ""
    if telltale:
        faults.append(f"it obeys an instruction inside the prompt ({telltale})")
    source, target = read(QUOTES.sub(" , ", video)).language, language_of(caption)
    # quoted texts are checked as a whole; what they say must not be taken for what the video shows
    plain = caption
    for quote in quotes(video):
        plain = plain.replace(quote, ",")
    reading = read(plain, target)
    missing, contradicted, unchecked = [], [], []
    for fact in facts(prompt):
        state = _state(fact, source, reading, caption)
        if state == "unknown":
            unchecked.append(fact.shown)
        elif state == "missing":
            missing.append(fact.shown)
        elif state:
            contradicted.append(state)
    contradicted += [*swapped(video, caption), *other_camera_moves(video, caption)]
    missing = list(dict.fromkeys(missing))
    return Verdict(tuple(missing), tuple(dict.fromkeys(contradicted)), tuple(faults), tuple(dict.fromkeys(unchecked)))


def _state(fact: Fact, source: str, caption: Reading, whole: str) -> str:
    """ "" when the caption says it, "missing", "unknown" when that cannot be told, or how it is contradicted."""
    if fact.kind == "quote":
        return "" if fact.value in " ".join(whole.split()) else "missing"
    if fact.kind == "name":
        inside = re.search(rf"(?<![^\W_]){re.escape(fact.value)}(?:'s)?(?![^\W_])", fold(caption.text))
        translated = caption.language != source and "zh" in {caption.language, source}
        return "" if inside else "unknown" if translated else "missing"
    if fact.kind in {"number", "colour"}:
        return "" if any(word.kind == fact.kind and _same_value(fact, word) for word in caption.words) else "missing"
    noun = fact.value if fact.kind in {"word", "mention"} else fact.of
    places = _places(noun, source, caption)
    if places is None:
        if fact.kind == "negation" and not any(word.kind == "negation" for word in caption.words):
            return "missing"
        return "unknown"
    if fact.kind == "negation":
        return _negation_state(fact, places, caption)
    if fact.kind == "attribute":
        return _attribute_state(fact, places, caption)
    if not places:
        return "missing"
    negated = fact.kind == "word" and all(_negated(caption, place) for place in places)
    return f"it negates '{fact.shown}'" if negated else ""


def _places(noun: str, source: str, caption: Reading) -> list[int] | None:
    """Where the caption has a word of the prompt; None when it is in another language and the glossary lacks it."""
    if caption.language != source:
        wanted = [entry[caption.language] for entry in lexicon.glossary() if _in_entry(noun, source, entry, caption)]
        if not wanted:
            own = [i for i, word in enumerate(caption.words) if word.form == noun]
            return own or None
        found = [i for one in wanted for i in _places(one, caption.language, caption) or []]
        return sorted(set(found))
    if source == "zh":
        return _chinese_places(noun, caption)
    return [i for i, word in enumerate(caption.words) if same_word(noun, word.form, source)]


def _in_entry(noun: str, source: str, entry: dict[str, str], caption: Reading) -> bool:
    if caption.language not in entry or source not in entry:
        return False
    return entry[source] in noun if source == "zh" else same_word(noun, entry[source], source)


def _chinese_places(noun: str, caption: Reading) -> list[int]:
    """Words are not separated: the whole run of characters, or most pairs of neighbours in it, must be there."""
    flat = "".join(caption.text.split())
    pairs = [noun[i : i + 2] for i in range(len(noun) - 1)]
    if noun not in flat and (len(noun) < 3 or sum(pair in flat for pair in pairs) < 0.6 * len(pairs)):
        return []
    keys = {noun, *pairs} if len(noun) > 1 else {noun}
    found = [i for i, word in enumerate(caption.words) if any(key in word.raw for key in keys)]
    return found or [0]


def _same_value(fact: Fact, word: Word) -> bool:
    return word.value == fact.value.split(" ")[-1]


def _negated(caption: Reading, place: int) -> bool:
    """Whether a negation stands before a word, or closely after it, in its clause."""
    words, here = caption.words, caption.words[place]
    before = [word for word in words[max(0, place - 6) : place] if word.clause == here.clause]
    after = [word for word in words[place + 1 : place + 5] if word.clause == here.clause]
    if any(word.kind == "negation" for word in before[-4:]):
        return True
    return any(word.kind == "negation" and word.form in {"absent", "nowhere", "missing"} for word in after)


def _negation_state(fact: Fact, places: list[int], caption: Reading) -> str:
    if not fact.of:
        return "" if any(word.kind == "negation" for word in caption.words) else "missing"
    if not places:
        return "missing"
    near = fact.value in _NOBODY
    denied = any(_denied(caption, place, near) for place in places)
    return "" if denied else f"it drops the negation in '{fact.shown}'"


def _denied(caption: Reading, place: int, near: bool) -> bool:
    """Whether a negation reaches a word: before it in its sentence ("no cars, buses or trams") or after in its clause.
    near: only in its clause."""
    here = caption.words[place]
    before = [word for word in caption.words[max(0, place - 8) : place] if word.sentence == here.sentence]
    before = [word for word in before if word.clause == here.clause] if near else before
    after = [word for word in caption.words[place + 1 : place + 5] if word.clause == here.clause]
    return any(word.kind == "negation" for word in (*before, *after))


def _attribute_state(fact: Fact, places: list[int], caption: Reading) -> str:
    """A number or colour must stand near its noun; `swapped` looks for another one in its place."""
    if not places:
        return ""  # reported as a missing word
    kind = fact.value.split(" ")[0]
    near = False
    for place in places:
        reach = caption.words[max(0, place - NEAR) : place + NEAR + 1]
        sentence = caption.words[place].sentence
        near = near or any(w.kind == kind and _same_value(fact, w) and w.sentence == sentence for w in reach)
    return "" if near else f"it no longer says '{fact.shown}'"


def swapped(prompt: str, caption: str) -> tuple[str, ...]:
    """Nouns that have another colour or number in the caption than in the prompt."""
    source, target = language_of(prompt), read(caption)
    if source != target.language:
        return ()
    given: dict[tuple[str, str], set[str]] = {}
    for fact in facts(prompt):
        if fact.kind == "attribute":
            kind, value = fact.value.split(" ")
            given.setdefault((kind, fact.of), set()).add(value)
    found = []
    for index, word in enumerate(target.words):
        noun = _noun_of(target, index) if word.kind in {"number", "colour"} else None
        if noun is None:
            continue
        asked = [v for (kind, name), v in given.items() if kind == word.kind and same_word(name, noun.form, source)]
        families = {lexicon.FAMILIES.get(value, value) for values in asked for value in values}
        if asked and lexicon.FAMILIES.get(word.value, word.value) not in families:
            found.append(f"it says '{word.raw} {noun.raw}'")
    return tuple(dict.fromkeys(found))
