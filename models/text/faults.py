"""What is wrong with an answer that should be a caption, and which sentences of a prompt talk to the language model."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from .cleaning import CONTROL, LONGEST, normal_form
from .reading import CJK, count_words, fold, read

# None of these patterns may look for the end of something from every beginning: 80 kB of beginnings would take minutes.
_HTML = re.compile(
    r"</\s*[a-z][\w-]*\s*>|<!doctype|<!--|&(?:nbsp|amp|lt|gt|quot|#\d+);|"
    r"<(?:html|head|body|div|p|br|span|script|style|iframe|img|a|ul|ol|li|table|title|meta|h[1-6]|b|i|svg)\b[^<>]*>",
    re.IGNORECASE,
)
_MARKERS = re.compile(
    r"<\|[^<>]*\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|^#{2,}\s", re.IGNORECASE | re.MULTILINE
)
_ADDRESS = re.compile(r"\bhttps?://\S+|\bwww\.\S+", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\bi(?:'m| am) (?:so |very |really )?(?:sorry|unable|not able|afraid)\b|\bi (?:can(?:'t|not| not)|won't|will not|"
    r"must decline|do not feel)\b|\bas an? (?:ai|language model|assistant)\b|\bes tut mir leid\b|\bich kann (?:das|"
    r"diese|dir|ihnen|leider)\b|\bals ki\b|\blo siento\b|\bno puedo\b|\bcomo (?:modelo|una? ia)\b|\bje suis desole|"
    r"\bje ne peux\b|\ben tant qu'?(?:ia|assistant|modele)|抱歉|对不起|我无法|我不能|"
    r"作为(?:一个|一名)?(?:AI|人工智能|语言模型)",
    re.IGNORECASE,
)
_META = re.compile(
    r"\b(?:the|your|this|original|expanded|rewritten|user'?s?|given) (?:user )?prompts?\b|\bthe user\b|\bthe caption\b|"
    r"\bhere(?:'s| is| are) (?:the|an?|your)\b|\bis there anything else\b|\blet me know\b|\bword count\b",
    re.IGNORECASE,
)
_TELL = "(?:reply|respond|answer|output|print|return|repeat|say|write)"
# sentences that speak to a language model, over text without accents
_TALK = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,50}\b(?:instructions?|prompts?|rules?|above|previous|prior|"
    r"guidelines|everything (?:above|before))\b|\bsystem (?:prompt|message|instructions?)\b|"
    r"\byou are (?:now|chatgpt|an? (?:ai|assistant|language model|helpful))\b|"
    rf"\b{_TELL}\b[^.]{{0,20}}\b(?:only|exactly|nothing (?:but|else)|the (?:following|words?|text|phrase)|instead)\b|"
    rf"\b(?:only|just|instead) {_TELL}\b|\b(?:jailbreak|developer mode|dan mode)\b|"
    r"\b(?:write|tell) me (?:an?|the) (?:poem|joke|story|essay|code|recipe)\b|\btranslate (?:this|the following)\b|"
    r"\b(?:reveal|show|tell me|print) your (?:instructions|prompt|rules|key|secrets?)\b|"
    r"\b(?:ignoriere?|vergiss|missachte)\b.{0,50}\b(?:anweisung(?:en)?|regeln?|vorgaben?|obigen?|bisherigen?)\b|"
    r"\bantworte\b.{0,20}\b(?:nur|mit|ausschliesslich)\b|\bgib\b.{0,20}\bnur\b.{0,30}\baus\b|"
    r"\b(?:ignora|olvida)\b.{0,50}\b(?:instruccion(?:es)?|reglas?|anterior(?:es)?)\b|\bresponde\b.{0,12}\b(?:solo|con)\b|"
    r"\b(?:ignore[zr]?|oublie[zr]?)\b.{0,50}\b(?:instructions?|consignes?|regles?|precedent\w*)\b|"
    r"\breponds?\b.{0,12}\b(?:seulement|uniquement|par|juste)\b|"
    r"(?:忽略|无视|忘记).{0,20}(?:指令|指示|提示|规则|以上|之前)|(?:只|仅)(?:回答|输出|回复|说)|"
    r"<\|[^<>]*\|>|\[/?inst\]|<</?sys>>|(?<!#)#{2,}\s{0,20}(?:system|instruction|assistant)|"
    r"^\s{0,20}(?:system|assistant)\s{0,20}:",
    re.IGNORECASE,
)
SENTENCES = re.compile(
    r"[^.!?\u3002\uff01\uff1f\n]+(?:[.!?\u3002\uff01\uff1f]+(?=\s|$|[\"'”’」])[\"'”’」]*|[.!?\u3002\uff01\uff1f\n]+|$)"
)


def find_faults(answer: str, prompt: str, instruction: str = "", max_words: int = 400) -> tuple[str, ...]:
    """Why an answer (after `answers.unwrap`) is no caption of the prompt, in plain words; empty when it may be one."""
    if not answer.strip():
        return ("it is empty",)
    if len(answer) > LONGEST:
        return (f"it has more than {LONGEST} characters",)
    plain, asked = _plain(answer), _plain(prompt)
    checks = (
        (CONTROL.search(answer) or "\x1b" in answer, "it has control characters in it"),
        (_new(_HTML, plain, asked), "it is a piece of a web page"),
        (_new(_MARKERS, plain, asked), "it has markers of a chat format in it"),
        (_new(_ADDRESS, plain, asked), "it has a web address in it"),
        (_new(_REFUSAL, plain[:300], asked), "it is a refusal"),
        (_new(_META, plain, asked), "it talks about the task instead of the video"),
        (loops(answer, prompt), "it repeats itself"),
        (_leaks(plain, instruction), "it repeats the instructions"),
        (count_words(answer) > max_words, f"it has more than {max_words} words"),
        (count_words(answer) < 3, "it is too short"),
    )
    return tuple(why for found, why in checks if found)


def loops(text: str, prompt: str = "") -> bool:
    """Whether a text goes round in circles: a word three times in a row, a phrase four times, few different words."""
    sentences = Counter(fold(found.strip()) for found in re.findall(r"[^.!?\u3002\uff01\uff1f]{12,}", text))
    if sentences and max(sentences.values()) > 2:
        return True
    if re.search(rf"([{CJK}]{{3,12}}?)\W*(?:\1\W*){{3,}}", text):
        return True
    words = [fold(found) for found in re.findall(r"[^\W\d_]+", text)]
    asked = " ".join(fold(found) for found in re.findall(r"[^\W\d_]+", prompt))
    if any(a == b == c and f"{a} {a} {a}" not in asked for a, b, c in zip(words, words[1:], words[2:], strict=False)):
        return True
    phrases = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    if phrases and max(phrases.values()) > 3:
        return True
    return len(words) > 60 and len(set(words)) < 0.3 * len(words)


def _plain(text: str) -> str:
    decomposed = normal_form("NFKD", text.replace("’", "'"))
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign))


def _new(pattern: re.Pattern[str], answer: str, prompt: str) -> bool:
    """Whether a pattern is in the answer without being in the prompt."""
    asked = prompt.lower()
    return any(found.group().lower() not in asked for found in pattern.finditer(answer))


def _leaks(answer: str, instruction: str, length: int = 9) -> bool:
    """Whether a run of words of the instruction text stands in the answer."""
    words = re.findall(r"\w+", instruction.lower())
    flat = " ".join(re.findall(r"\w+", answer.lower()))
    return any(" ".join(words[i : i + length]) in flat for i in range(len(words) - length + 1))


@lru_cache(maxsize=16)
def split_instructions(prompt: str) -> tuple[str, str]:
    """The prompt in two: what describes a video, and the sentences that tell a language model what to do."""
    video: list[str] = []
    orders: list[str] = []
    for found in SENTENCES.finditer(prompt):
        (orders if _TALK.search(_plain(found.group())) else video).append(found.group().strip())
    return " ".join(part for part in video if part), " ".join(part for part in orders if part)


def obeyed(answer: str, video: str, orders: str) -> str:
    """A telltale of the orders (a quoted, capitalised or numeric word) that the answer carries; "" where none does."""
    quoted: list[str] = re.findall(r"[\"“„«「']([^\"”“»」']{2,})[\"”“»」']", orders)
    marked = [word.raw for word in read(orders).words if re.fullmatch(r"[A-Z][A-Z0-9_-]+|\d{2,}", word.raw)]
    for telltale in [*quoted, *marked]:
        inside = re.compile(rf"(?<!\w){re.escape(telltale)}(?!\w)", re.IGNORECASE)
        if inside.search(answer) and not inside.search(video):
            return telltale
    return ""
