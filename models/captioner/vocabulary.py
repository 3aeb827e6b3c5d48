"""The captioner's words: BERT's pieces, restricted to those that its captions use, and marks for start and end.

Printable ASCII signs are always in it, alone and inside words, so that any English word can be spelled.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

from ..text.encoder import text_encoder_files
from ..text.tokenizer import SPECIAL, WordPieceTokenizer

SHORT, DETAILED, END = "[SHORT]", "[DETAILED]", "[END]"
MARKS = (SHORT, DETAILED, END)
SHORT_WORDS = 24  # a caption of more words is a detailed one
_LETTERS = string.ascii_lowercase + string.digits
_OPENING, _CLOSING = "([{", ".,;:!?)]}%"


def is_detailed(caption: str) -> bool:
    """Whether a caption counts as a detailed one."""
    return len(caption.split()) > SHORT_WORDS


class Vocabulary:
    """Texts to ids and back. `tokens` are the pieces in the order of their ids."""

    def __init__(self, tokens: Sequence[str]) -> None:
        missing = [mark for mark in MARKS if mark not in tokens]
        if missing:
            raise ValueError(f"the captioner's vocabulary lacks {', '.join(missing)}: the file is not a captioner's")
        self.tokenizer = WordPieceTokenizer(tokens)
        self.tokens, self.ids = self.tokenizer.tokens, self.tokenizer.ids
        self.end = self.ids[END]
        self.starts = {True: self.ids[DETAILED], False: self.ids[SHORT]}
        self.never = [self.ids[token] for token in (*SPECIAL, SHORT, DETAILED)]  # no part of a caption

    @classmethod
    def of(cls, captions: Iterable[str], full: WordPieceTokenizer | None = None) -> Vocabulary:
        """The pieces of these captions. full: the whole vocabulary they are cut with; left out: the text encoder's."""
        full = full or WordPieceTokenizer.from_file(text_encoder_files()[1])
        used = {piece for caption in captions for piece in full.pieces(caption)} - set(SPECIAL)
        signs = {*_LETTERS, *("##" + letter for letter in _LETTERS), *string.punctuation}
        return cls([*SPECIAL, *MARKS, *sorted(used | signs)])

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption: its start mark, pieces, end mark."""
        pieces = [self.ids[piece] for piece in self.tokenizer.pieces(caption)]
        return [self.starts[is_detailed(caption)], *pieces, self.end]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, up to the end mark: words joined, sentences with a capital."""
        words: list[str] = []
        for index in ids:
            token = self.tokens[index]
            if token == END:
                break
            if token in SPECIAL or token in MARKS:
                continue
            if token.startswith("##") and words:
                words[-1] += token[2:]
            else:
                words.append(token)
        return sentence_case(spaced(words))


def spaced(words: Iterable[str]) -> str:
    """Words and signs with the usual spaces between them; hyphens and apostrophes join."""
    text, joins = "", True
    for word in words:
        text += word if joins or word in {*_CLOSING, "-", "'", "/"} else f" {word}"
        joins = word in {*_OPENING, "-", "'", "/"}
    return text


def sentence_case(text: str) -> str:
    """A capital at the start of each sentence."""
    return re.sub(r"(^|[.!?]\s+)([a-z])", lambda found: found[1] + found[2].upper(), text)
