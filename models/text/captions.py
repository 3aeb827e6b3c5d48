"""Expand a short prompt into a detailed caption, without losing what its author said.

`offline` appends what the prompt leaves open, by grammar. `model` asks a language model, checks its answer with
`verification`, asks again with the reason, and falls back with a reason that the user sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from ..files import read_text
from ..remedies import cut
from .answers import unwrap
from .cleaning import without_control
from .faults import split_instructions
from .interface import LanguageModel, Question
from .offline import FIELDS, additions, join
from .reading import count_words, language_of
from .small_models import small_additions
from .verification import Verdict, facts, verify

MODES = ("offline", "model")
LANGUAGES = {"same": "the language of the prompt", "en": "English"}
NAMES = {"en": "English", "de": "German", "es": "Spanish", "fr": "French", "zh": "Chinese"}
ATTEMPTS = 3
LEAST = 4  # words that a caption must have more than the prompt
MOST = 6000  # characters of a prompt that is read; one with more is left alone
BEHIND = "model, after your own words"


@dataclass(frozen=True)
class Style:
    """Lengths in words: asked of a model, from which a prompt counts as detailed, and the most that is accepted."""

    asked: str
    enough: int
    most: int


STYLES = {
    "plain": Style("30 to 60", 40, 130),
    "cinematic": Style("60 to 90", 60, 180),
    "wan": Style("80 to 100", 80, 200),
    "hunyuan": Style("100 to 150", 100, 300),
    "ltx": Style("100 to 150", 120, 300),
}
assert STYLES.keys() == FIELDS.keys()


@dataclass(frozen=True)
class Expansion:
    """original: as given. text: to use. changed: what was done, for the user. reason: why not as asked; mostly empty.
    source: "offline", "model", "model, after your own words", or "original"."""

    original: str
    text: str
    changed: str
    reason: str
    source: str

    def report(self) -> str:
        """For the node: what was done and why."""
        return "\n".join(part for part in (self.changed or "unchanged", self.reason) if part)


def expand(
    prompt: str,
    mode: str = "offline",
    *,
    language_model: LanguageModel | None = None,
    style: str = "plain",
    seed: int = 0,
    language: str = "same",
    images: Sequence[bytes] = (),
) -> Expansion:
    """A detailed caption of the prompt. ValueError for an unknown mode, style or language, or a missing model."""
    for name, value, options in (("mode", mode, MODES), ("style", style, STYLES), ("language", language, LANGUAGES)):
        if value not in options:
            raise ValueError(f"there is no {name} '{cut(value, 60)}': choose one of {', '.join(options)}")
    if mode == "model" and language_model is None:
        raise ValueError("mode 'model' needs a language model: connect Load Language Model, or choose mode 'offline'")
    clean = without_control(prompt)
    note = "" if clean == prompt.strip() else "control characters and extra spaces removed"
    translate = language == "en" and language_of(clean) != "en"
    early = _left_alone(prompt, clean, style, translate and mode == "model")
    if early:
        return Expansion(prompt, clean, note, early, "original")
    if mode == "offline" or language_model is None:
        reason = "the offline mode does not translate: the added sentences are in the prompt's language"
        return _offline(prompt, clean, style, seed, note, reason if translate else "")
    orders = split_instructions(clean)
    if not count_words(orders[0]) or not facts(clean):
        reason = "nothing in the prompt describes a picture, so the language model was not asked"
        return _offline(prompt, clean, style, seed, note, reason)
    request = _Request(prompt, clean, style, seed, language, tuple(images), note)
    # a small model that is shown a picture is a describer: it gets its chance to rewrite, and is checked like any other
    small = getattr(language_model, "small", False) and not images
    return request.run_small(language_model) if small else request.run(language_model)


def _left_alone(prompt: str, clean: str, style: str, translate: bool) -> str:
    """Why a prompt stays as it is; empty when it is to be expanded."""
    words = count_words(clean)
    if not prompt.strip() or not clean:
        return "the prompt is empty: write what the video should show"
    if not words:
        return "the prompt has no words in it, so nothing was added"
    if len(clean) > MOST and (translate or words < STYLES[style].enough):
        return f"the prompt has {len(clean)} characters, more than the {MOST} that are read, so it was left alone"
    if words >= STYLES[style].enough and not translate:
        return f"the prompt is detailed already ({words} words), so it was left alone"
    return ""


def _offline(prompt: str, clean: str, style: str, seed: int, note: str, reason: str) -> Expansion:
    added = additions(clean, style, seed)
    text = join(clean, [sentence for _, sentence in added])
    if not added:
        why = "the prompt leaves nothing open that the offline mode could add"
        if count_words(split_instructions(clean)[0]) == 0:
            why = "the prompt reads like an order to a language model; it was left as it is"
        elif language_of(clean) not in NAMES:
            why = f"the offline mode knows {', '.join(NAMES.values())}; this prompt was left as it is"
        return Expansion(prompt, clean, note, _sentences(reason, why), "original")
    done = f"added after your words: {', '.join(field for field, _ in added)}"
    return Expansion(prompt, text, _sentences(done, note), reason, "offline")


@dataclass(frozen=True)
class _Request:
    """One prompt on its way through a language model."""

    prompt: str
    clean: str
    style: str
    seed: int
    language: str
    images: tuple[bytes, ...]
    note: str

    def run(self, model: LanguageModel) -> Expansion:
        """Ask, check, ask again with the reason; at last fall back."""
        instruction = self.instruction()
        problem, usable = "", ""
        for attempt in range(ATTEMPTS):
            try:
                question = Question(instruction, self.message(problem), self.seed + attempt, images=self.images)
                answer = model(question)
            except (ValueError, RuntimeError, OSError) as error:
                return self.fallback(f"the language model gave no answer ({cut(error, 300)})", usable)
            found = unwrap(str(answer))
            text, verdict = found.text, self.judge(found.text, instruction, found.problem)
            if verdict.ok:
                return self.accepted(text, verdict)
            problem = verdict.reason()
            if not verdict.faults and not verdict.contradicted and self.is_on_topic(verdict):
                usable = usable or text
        return self.fallback(f"the language model's {ATTEMPTS} answers could not be used ({problem})", usable)

    def run_small(self, model: LanguageModel) -> Expansion:
        """Leave the prompt as it is and have only what it leaves open named, one thing at a time."""
        if language_of(self.clean) != "en":
            return self.fallback("a small language model is only asked about English prompts", "")
        try:
            added = small_additions(model, self.clean, self.style, self.seed)
        except (ValueError, RuntimeError, OSError) as error:
            return self.fallback(f"the language model gave no answer ({cut(error, 300)})", "")
        text = join(self.clean, [one.sentence for one in added if one.sentence])
        if not any(one.by_model for one in added) or not verify(self.clean, text).ok:
            problems = "; ".join(f"{one.field}: {one.problem}" for one in added if one.problem)
            why = f"the language model's answers could not be used ({problems})"
            return self.fallback(why if problems else "the prompt leaves nothing open for a small language model", "")
        by = {True: "by the language model", False: "by grammar"}
        fields = [(who, [one.field for one in added if one.by_model is who and one.sentence]) for who in by]
        done = "; ".join(f"{', '.join(names)} {by[who]}" for who, names in fields if names)
        missed = "; ".join(f"no usable answer for the {one.field} ({one.problem})" for one in added if one.problem)
        return Expansion(self.prompt, text, _sentences(f"added after your words: {done}", self.note), missed, BEHIND)

    def instruction(self) -> str:
        """What the language model is told: the style's text, then the rules that hold for all."""
        keep = list(dict.fromkeys(fact.shown for fact in facts(self.clean) if fact.kind != "attribute"))
        names = ("rules.txt", "image.txt") if self.images else ("rules.txt",)
        wanted = "en" if self.language == "en" else language_of(self.clean)
        texts = [_prompt_file(f"{self.style}.txt"), *(_prompt_file(name) for name in names)]
        return Template("\n".join(texts)).safe_substitute(
            words=STYLES[self.style].asked,
            keep="; ".join(keep[:60]),
            language=NAMES.get(wanted, LANGUAGES["same"]),
        )

    def message(self, problem: str) -> str:
        """The prompt between marks, so that it is not taken for a request; after a bad answer also what was wrong."""
        text = f"<prompt>\n{self.clean}\n</prompt>"
        return f"{text}\nYour last answer could not be used: {problem}. Write the caption again." if problem else text

    def judge(self, text: str, instruction: str, problem: str = "") -> Verdict:
        """The check of `verification`, and whether language and length are as wanted.
        problem: what unwrapping it has found."""
        if problem:
            return Verdict(faults=(problem,))
        verdict = verify(self.clean, text, instruction, STYLES[self.style].most + count_words(self.clean))
        faults = list(verdict.faults)
        wanted = "en" if self.language == "en" else language_of(self.clean)
        if not faults and wanted in NAMES and language_of(text) != wanted:
            faults.append(f"it is not in {NAMES[wanted]}")
        video = split_instructions(self.clean)[0]
        if not faults and language_of(text) == language_of(video) and count_words(text) < count_words(video) + LEAST:
            faults.append("it adds hardly anything to the prompt")
        return Verdict(verdict.missing, verdict.contradicted, tuple(faults), verdict.unchecked)

    def is_on_topic(self, verdict: Verdict) -> bool:
        """Whether an incomplete answer may follow the user's own words: it kept at least half of what they say."""
        needed = [fact for fact in facts(self.clean) if fact.kind not in {"attribute", "quote"}]
        return self.language == "same" and 2 * len(verdict.missing) <= len(needed)

    def accepted(self, text: str, verdict: Verdict) -> Expansion:
        """A good answer, with what it kept and what could not be checked."""
        words = f"rewritten: {count_words(self.clean)} -> {count_words(text)} words"
        kept = [fact.shown for fact in facts(self.clean) if fact.kind not in {"attribute"}]
        checked = [shown for shown in dict.fromkeys(kept) if shown not in verdict.unchecked]
        done = f"{words}; kept: {', '.join(checked[:20])}" if checked else words
        unsure = f"could not be followed into the other language, please look: {', '.join(verdict.unchecked[:20])}"
        ignored = "an instruction inside the prompt was not followed" if split_instructions(self.clean)[1] else ""
        reason = _sentences(unsure if verdict.unchecked else "", ignored)
        return Expansion(self.prompt, text, _sentences(done, self.note), reason, "model")

    def fallback(self, why: str, usable: str) -> Expansion:
        """The user's words with an incomplete but true answer after them, else the offline expansion."""
        if usable:
            text = join(self.clean, [usable])
            if self.judge(text, "").ok:
                done = f"your words are unchanged; {count_words(usable)} words of the language model follow"
                return Expansion(
                    self.prompt, text, _sentences(done, self.note), f"{why}: your own words come first", BEHIND
                )
        offline = _offline(self.prompt, self.clean, self.style, self.seed, self.note, "")
        instead = "the offline expansion" if offline.source == "offline" else "the original"
        return Expansion(
            self.prompt,
            offline.text,
            offline.changed,
            _sentences(f"{why}: used {instead} instead", offline.reason),
            offline.source,
        )


def _prompt_file(name: str) -> str:
    return read_text(Path(__file__).parent / "prompts" / name)


def _sentences(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
