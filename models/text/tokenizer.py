"""WordPiece of BERT uncased, in plain Python: no tokenizer library where the pack trains or runs.

Same rules, and the same ids, as google-research/bert `tokenization.py` and transformers' `BertTokenizer`: clean and
lower-case, set CJK characters apart, strip accents, split at punctuation, then match the longest known piece.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from ..files import read_text
from .cleaning import normal_form

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNKNOWN, CLS, SEP, MASK)
MAX_CHARACTERS_PER_WORD = 100  # longer words become [UNK], as in the original
CJK_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
# no word goes beyond these, and no accent makes another sign of them: blanks; CJK characters and most punctuation of
# ASCII, each of which is a word of its own
_BLANKS = "\t\n\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_ALONE = "".join(f"{chr(first)}-{chr(last)}" for first, last in CJK_RANGES) + r"!-/:;?@\[-`{-~"
_RUNS = re.compile(f"[{_ALONE}]|[^{_BLANKS}{_ALONE}]+")
_SPECIAL_PATTERN = re.compile("(" + "|".join(re.escape(token) for token in SPECIAL) + ")")


@lru_cache(maxsize=4096)
def _spell(character: str) -> str:
    """One character after cleaning and lower-casing: nothing, a space, itself, or a CJK character set apart."""
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if character == "\ufffd" or unicodedata.category(character).startswith("C"):
        return ""
    code = ord(character)
    if any(first <= code <= last for first, last in CJK_RANGES):
        return f" {character} "
    # each character alone: str.lower() of a whole word treats a final Greek sigma differently
    return character.lower()


@lru_cache(maxsize=4096)
def _is_punctuation(character: str) -> bool:
    """ASCII signs that are no letter, digit or space, and everything Unicode calls punctuation."""
    return (character.isascii() and character.isprintable() and not character.isalnum() and character != " ") or (
        unicodedata.category(character).startswith("P")
    )


def split_words(text: str) -> Iterator[str]:
    """Lower-case words and single punctuation marks of a text that holds no special tokens, one after the other: who
    needs the first few of a long text does not wait for the rest."""
    for found in _RUNS.finditer(text):
        run = found.group()
        yield from _known_parts(run) if len(run) <= MAX_CHARACTERS_PER_WORD else _parts(run)


def _parts(run: str) -> tuple[str, ...]:
    """A run of characters cleaned and without accents, cut at its blanks and its punctuation."""
    clean = normal_form("NFC", "".join(map(_spell, run))).lower()
    letters = "".join(c for c in normal_form("NFD", clean) if unicodedata.category(c) != "Mn")
    return tuple("".join(f" {c} " if _is_punctuation(c) else c for c in letters).split())


_known_parts = lru_cache(maxsize=16_384)(_parts)  # captions repeat their words


class WordPieceTokenizer:
    """Text to ids with a vocabulary of pieces; `tokens` lists the pieces in the order of their ids."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = list(tokens)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        missing = [token for token in SPECIAL if token not in self.ids]
        if missing:
            raise ValueError(f"the vocabulary of {len(self.tokens)} pieces lacks {missing}: use BERT's vocab.txt")
        self.pad_id, self.cls_id, self.sep_id = self.ids[PAD], self.ids[CLS], self.ids[SEP]

    @classmethod
    def from_file(cls, path: Path) -> WordPieceTokenizer:
        """Read a vocab.txt with one piece per line."""
        return cls(read_text(path).removesuffix("\n").split("\n"))

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text, without [CLS] and [SEP]. Special tokens written in the text are kept as they are."""
        return list(self._pieces(text))

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        for special in _SPECIAL_PATTERN.finditer(text):
            yield from self._plain_pieces(text[start : special.start()])
            yield special.group()
            start = special.end()
        yield from self._plain_pieces(text[start:])

    def _plain_pieces(self, text: str) -> Iterator[str]:
        return (piece for word in split_words(text) for piece in self._match(word))

    def _match(self, word: str) -> Iterator[str]:
        """Longest known piece first; a word with a part that nothing matches is unknown as a whole."""
        if len(word) > MAX_CHARACTERS_PER_WORD:
            return iter((UNKNOWN,))
        matched: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            end = len(word)
            while end > start and prefix + word[start:end] not in self.ids:
                end -= 1
            if end == start:
                return iter((UNKNOWN,))
            matched.append(prefix + word[start:end])
            start = end
        return iter(matched)

    def encode(self, text: str, max_length: int | None = None) -> list[int]:
        """Ids with [CLS] in front and [SEP] behind, cut to max_length; the empty text gives just these two.

        What is cut off is not looked at.
        """
        most = None if max_length is None else max_length - 2
        ids = [self.ids[piece] for piece in islice(self._pieces(text), most)]
        return [self.cls_id, *ids, self.sep_id]

    def encode_batch(self, texts: Sequence[str], max_length: int | None = None) -> tuple[list[list[int]], list[int]]:
        """Ids of several texts padded to the longest, and each text's own length."""
        rows = [self.encode(text, max_length) for text in texts]
        lengths = [len(row) for row in rows]
        longest = max(lengths, default=0)
        return [row + [self.pad_id] * (longest - len(row)) for row in rows], lengths
