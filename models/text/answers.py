"""The caption inside a language model's answer: thoughts, fences, JSON, labels and marks of a chat format taken off.

What cannot be one caption (several versions, a caption said twice, JSON without one) is named instead of being guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .cleaning import LONGEST, normal_form, whole_characters
from .reading import count_words, fold

_THOUGHT = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis)"
# how a thought begins and ends: Qwen and DeepSeek, Magistral, Kimi, Seed, Cohere, gpt-oss, Gemma, Apertus, MedGemma
_BEGINS = re.compile(
    rf"<{_THOUGHT}>|\[think(?:ing)?\]|◁think▷|<\|(?:start_thinking|begin_of_thought|inner_prefix)\|>|<unused94>|"
    r"<\|?channel\|?>\s?(?:analysis|commentary|thought)|^\s?analysis(?=[A-Z])",
    re.IGNORECASE,
)
_ENDS = re.compile(
    rf"</{_THOUGHT}>|\[/think(?:ing)?\]|◁/think▷|<\|(?:end_thinking|end_of_thought|inner_suffix)\|>|<unused95>|"
    r"<channel\|>|<\|channel\|>\s?final[^<>]{0,40}(?:<\|constrain\|>[^<>]{0,40})?<\|message\|>|"
    r"(?<=[.!?\"')\]])assistantfinal",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"<\|(?:im_end|eot_id|end|return|endoftext|end_of_text|end_of_turn|"
    r"start_response|end_response|begin_of_solution|end_of_solution|begin_of_box|end_of_box|end_of_turn_token|eom_id)\|>|"
    r"</?s>|<eos>|<bos>|<end_of_turn>|<[|｜]end[▁_]of[▁_]sentence[|｜]>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(answer|final_answer|response|caption|prompt|output|final|description|result)>", re.IGNORECASE)
_NEGATIVE = re.compile(r"\bnegative[ _-]?(?:prompt|caption)s?\W{0,4}:", re.IGNORECASE)
_LABEL = (
    r"(?:option|version|variante?|variation|alternative|choice|take|draft|example|prompt|caption|opci[oó]n|vorschlag|"
    r"选项|方案|版本|描述)"
)
_OPTION = re.compile(
    rf"\b{_LABEL} ?(?:no\.?|nr\.?|#)? ?(\d{{1,2}}|[A-D一二三]|one|two|three)\b ?[:.)\-–—：]", re.IGNORECASE
)
_NUMBERED = re.compile(r"^\(?\d{1,2}[.)] ")
_BULLET = re.compile(r"^(?:[-*•]|\(?\d{1,2}[.)]) +")
_HEADING = re.compile(r"^#{1,6} ")
_OPENER = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[^\n:]{0,60}?[:!.,]\s*)?"
    r"(?:here(?:'s| is) [^\n:]{0,80}:\s*)?"
    r"(?:(?:expanded |rewritten |detailed |video |final |enhanced |improved |revised |positive |full |new ){0,3}"
    r"(?:prompt|caption|description|answer|output|response)\s?:\s*)?",
    re.IGNORECASE,
)
_SHOWS = re.compile(
    r"^(?:the|this) (?:video|clip|scene|footage|film) (?:shows|depicts|features|captures|begins with)\s+", re.I
)
_CAPTION_KEYS = tuple(
    """
    caption expanded_prompt rewritten_prompt enhanced_prompt detailed_prompt improved_prompt positive_prompt
    video_prompt final_prompt expanded_caption detailed_caption prompt positive paragraph description text content
    output result response answer final message
    """.split()
)
_NOT_THE_CAPTION = re.compile(r"negative|original|input|source|avoid|exclude|user|note|reason|thought|analysis|title")
_MOST_OBJECTS = 20  # places where a JSON value may begin

THINKING = "it was cut off while it was thinking: raise max_tokens, or turn the model's thinking off"
SEVERAL = "it offers several versions or a list instead of one caption"
TWICE = "it repeats itself: it says the same twice"
NO_CAPTION = "it is JSON without a caption in it"
BROKEN = "it is broken JSON"


@dataclass(frozen=True)
class Unwrapped:
    """text: the caption, on one line. problem: why it cannot be one, in plain words; mostly empty."""

    text: str
    problem: str = ""


def unwrap(answer: str) -> Unwrapped:
    """The caption in an answer."""
    text, problem = without_thoughts(answer)
    text = _tidy(text)
    if len(text) > LONGEST:
        return Unwrapped(text[:LONGEST], problem or f"it has more than {LONGEST} characters")
    text, several = _inner(text)
    found = _json_caption(text)
    if found is not None:
        text, wrong = found
        text = _tidy(text)
        problem = problem or wrong
    text = _without_negative(text)
    problem = problem or several or _listed(text)
    text = _one_line(text)
    return Unwrapped(text, problem or (TWICE if text and says_twice(text) else ""))


def clean_answer(answer: str) -> str:
    """The text of `unwrap` alone."""
    return unwrap(answer).text


def without_thoughts(answer: str) -> tuple[str, str]:
    """What follows the last thought, whoever marks it how; and a sentence where the thinking never ended."""
    text = normal_form("NFC", whole_characters(answer)).replace("\r\n", "\n")
    ends = [found.end() for found in _ENDS.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    if ends and not _MARK.sub("", rest).strip():  # the thought came last
        first = _BEGINS.search(text)
        return (text[: first.start()] if first else ""), ""
    begun = _BEGINS.search(rest)
    if begun is None:
        return rest, ""
    before = rest[: begun.start()]
    return before, "" if count_words(_MARK.sub("", before)) >= 3 else THINKING


def _tidy(text: str) -> str:
    """Without chat marks, every line with single spaces, and at most one empty line between two."""
    lines = [" ".join(line.split()) for line in _MARK.sub("\n", text).strip().split("\n")]
    kept = [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]
    return "\n".join(kept).strip()


def _inner(text: str) -> tuple[str, str]:
    """What stands in a tag or a fence, where there is one; and what is wrong when there are several."""
    tags = list(_TAG.finditer(text))
    if tags:
        tag = next((one for one in tags if one.group(1).lower() != "prompt"), tags[0])
        end = text.lower().find(f"</{tag.group(1).lower()}>", tag.end())
        inside, after = (text[tag.end() :], "") if end < 0 else (text[tag.end() : end], text[end:].partition(">")[2])
        if tag.group(1).lower() == "prompt" and count_words(after) > 3:  # the question said again, then the answer
            return after.strip(), ""
        return inside.strip(), SEVERAL if tag.group().lower() in after.lower() else ""
    if "```" not in text:
        return text, ""
    parts = text.split("```")
    blocks = [
        re.sub(r"^[A-Za-z]{1,10}(?=\s?[\n{\[])", "", block).strip()
        for before, block in zip(parts[::2], parts[1::2], strict=False)
        if "negative" not in before[-80:].lower()
    ]
    blocks = [block for block in blocks if block]
    if not blocks:
        return parts[0].strip(), ""
    return blocks[0], SEVERAL if len(set(blocks)) > 1 else ""


def _json_caption(text: str) -> tuple[str, str] | None:
    """(caption, problem) where an answer is JSON, also with words around it; None where it is none."""
    begins = re.match(r"[{\[] ?\n? ?[\"'{\[\]}]", text) is not None
    if not begins and not re.search(r"\{ ?\n? ?\"", text):
        return None
    value = next((one for one in objects_in(text, "{[" if begins else "{") if one), None)
    if value is None:
        return text, BROKEN
    found = list(dict.fromkeys(one for one in _captions_in(value) if one.strip()))
    if not found:
        return text, NO_CAPTION
    return found[0], SEVERAL if len(found) > 1 else ""


def _captions_in(value: object, depth: int = 0) -> list[str]:
    """The texts of a JSON value that may be the caption: of an object one entry, of a list all; never a negative."""
    if isinstance(value, str):
        return [value]
    if depth > 8:
        return []
    if isinstance(value, list):
        return [text for one in value for text in _captions_in(one, depth + 1)]
    if not isinstance(value, dict):
        return []
    entries = {re.sub(r"[\s-]+", "_", str(key).strip().lower()): one for key, one in value.items()}
    entries = {key: one for key, one in entries.items() if not _NOT_THE_CAPTION.search(key)}
    for key in _CAPTION_KEYS:
        found = _captions_in(entries.get(key), depth + 1)
        if found:
            return found
    return [
        text
        for one in entries.values()
        for text in _captions_in(one, depth + 1)
        if isinstance(one, dict | list) or count_words(text) > 2
    ]


def objects_in(text: str, beginnings: str = "{") -> Iterator[object]:
    """JSON values inside a text, also with trailing commas and ones that were cut off at their end."""
    text = text[:LONGEST]
    decoder = json.JSONDecoder(strict=False)
    for found in list(re.finditer(f"[{re.escape(beginnings)}]", text))[:_MOST_OBJECTS]:
        rest = text[found.start() :]
        for candidate in (rest, re.sub(r",\s{0,80}([}\]])", r"\1", rest), *_closed(rest)):
            with suppress(ValueError, RecursionError):
                yield decoder.raw_decode(candidate)[0]
                return


def _closed(text: str) -> Iterator[str]:
    """An object that was cut off, ended after its last whole entry."""
    for cut in [found.start() for found in re.finditer(r",\s*\"", text)][::-1][:40]:
        yield text[:cut] + "}"
        yield text[:cut] + "]}"


def _without_negative(text: str) -> str:
    """The text without what a line or a label calls the negative prompt."""
    kept: list[str] = []
    dropping, dropped = False, False  # inside a negative prompt; and whether a word of it has come
    for line in text.split("\n"):
        found = _NEGATIVE.search(line)
        if found is not None:
            dropping, dropped = True, bool(line[found.end() :].strip("*: "))
            kept.append(line[: found.start()].strip("*#_> "))
        elif dropping and (line or not dropped) and not re.match(r"\W*(?:positive|caption|prompt)\b", line, re.I):
            dropped = dropped or bool(line)
        else:
            dropping = False
            kept.append(line)
    return "\n".join(kept).strip()


def _listed(text: str) -> str:
    """What is wrong where a text offers versions to choose from, or a numbered list."""
    options = {found.group(1).lower() for found in _OPTION.finditer(text)}
    lines = [line.strip("*#_> ") for line in text.split("\n") if line.strip("*#_-=> ")]
    numbered = sum(_NUMBERED.match(line) is not None for line in lines)
    if len(options) > 1 or numbered > 1:
        return SEVERAL
    return SEVERAL if len(lines) > 1 and _alike([_BULLET.sub("", line, count=1) for line in lines]) else ""


def _alike(texts: Sequence[str]) -> bool:
    """Whether two texts say the same thing, as two versions of one caption do."""
    sets = [frozenset(re.findall(r"\w{3,}", fold(text))) for text in texts[:12]]
    sets = [words for words in sets if len(words) >= 5]
    return any(
        len(one & other) >= 0.75 * min(len(one), len(other))
        for number, one in enumerate(sets)
        for other in sets[number + 1 :]
    )


def says_twice(text: str) -> bool:
    """Whether a caption stands in a text two times."""
    sentences = [" ".join(re.findall(r"\w+", fold(part))) for part in re.split(r"[.!?\u3002\uff01\uff1f\n]+", text)]
    long = [sentence for sentence in sentences if len(sentence) > 20 or (len(sentence) > 8 and not sentence.isascii())]
    if len(long) > len(set(long)):
        return True
    flat = " ".join(sentences).split()
    half = len(flat) // 2
    return half > 4 and len(flat) == 2 * half and flat[:half] == flat[half:]


def _one_line(text: str) -> str:
    """Bullets, bold, headings, openers and quotation marks taken off; the lines joined."""
    lines = text.split("\n")
    plain = [line for line in lines if not _HEADING.match(line)] or [_HEADING.sub("", line, count=1) for line in lines]
    text = "\n".join(_BULLET.sub("", line, count=1) for line in plain)
    text = re.sub(r"\*\*([^*\n]+)\*\*", r"\1", text)
    text = _OPTION.sub("", text, count=1) if _OPTION.match(text.strip()) else text
    text = _OPENER.sub("", text.strip(), count=1).strip()
    for left, right in ('""', "“”", "«»", "「」"):
        if len(text) > 1 and text[0] == left and text[-1] == right and left not in text[1:-1]:
            text = text[1:-1].strip()
    shortened = _SHOWS.sub("", text, count=1)
    if shortened != text:
        text = shortened[:1].upper() + shortened[1:]
    return " ".join(text.split())
