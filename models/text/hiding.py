"""Nothing of a key in what is shown, and nothing secret of an address."""

from __future__ import annotations

import re

SHARED = 6  # characters in a row that a text may not share with a key


def hide(text: str, key: str, *, words: bool = False) -> str:
    """A text in which whatever shares six characters in a row with the key is [key].

    Also where a server has put spaces or signs between them. words: leave common words alone, for captions: only what
    stands in one piece is hidden, and no word of small letters that is shorter than ten.
    """
    if not key:
        return text
    if len(key) < SHARED:
        return text.replace(key, "[key]")
    wanted = _letters(key)[0]
    runs = {key[i : i + SHARED] for i in range(len(key) - SHARED + 1)}
    spans = list(_spans(text, runs, list(range(len(text)))))
    if len(wanted) >= SHARED and not words:
        plain, places = _letters(text)
        spans += _spans(plain, {wanted[i : i + SHARED] for i in range(len(wanted) - SHARED + 1)}, places)
    found: list[str] = []
    end = 0
    for first, last in _joined(spans):
        part = text[first:last]
        if words and len(part) < 10 and part.isalpha() and part.islower():
            continue
        found += [text[end:first], "[key]"]
        end = last
    return "".join([*found, text[end:]])


def _letters(text: str) -> tuple[str, list[int]]:
    """The letters and digits of a text, and where they stand."""
    places = [place for place, sign in enumerate(text) if sign.isalnum()]
    return "".join(text[place] for place in places), places


def _spans(text: str, runs: set[str], places: list[int]) -> list[tuple[int, int]]:
    return [
        (places[i], places[i + SHARED - 1] + 1) for i in range(len(text) - SHARED + 1) if text[i : i + SHARED] in runs
    ]


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def plain_address(url: str) -> str:
    """An address without anything secret: no name, no password (whatever signs it has), no query."""
    scheme = re.match(r"https?:/{0,2}", url, re.IGNORECASE)
    begin = scheme.group() if scheme else ""
    rest = url[len(begin) :]
    before, _, after = rest.rpartition("@")
    if re.search(r"[?#&]", before):  # a password with such signs, or a query with an @: they look the same
        return f"{begin}..."
    return (begin + re.split(r"[?#&]", after, maxsplit=1)[0])[:200]
