"""What a system's refusal means and what to do about it, in the words of every error; and how much an error repeats.

Standard library only: `run.py` says the same before anything is installed.
"""

from __future__ import annotations

import errno
import re

_JOINERS = "\u200c\u200d"  # of letters, and of the parts of an emoji
# by the names of errno, since not every system has every number
REMEDIES = {
    "ENOSPC": "the disk is full: free some space",
    "EDQUOT": "your share of the disk is used up: free some space",
    "EFBIG": "the disk, or a limit of this process, takes no file that large: choose another disk, or raise the limit",
    "EACCES": "this user has no permission: change the permissions, or choose another place",
    "EPERM": "this is not permitted: change the permissions, or choose another place",
    "EROFS": "the disk is read-only: choose another place",
    "ENOENT": "there is no such file or folder: check the path",
    "ENOTDIR": "a part of the path is a file: check the path",
    "EISDIR": "it is a folder: give the name of a file",
    "ENAMETOOLONG": "the name is too long: shorten it",
    "ELOOP": "it is a link that leads to itself: remove it",
    "EMFILE": "too many files are open: close other programs, or raise the limit (ulimit -n)",
    "ENFILE": "too many files are open on this machine: close other programs",
    "EIO": "the disk or the network drive does not answer: check it",
    "ESTALE": "the network drive was lost: mount it again",
    "EBUSY": "another program holds it: close that program",
    "ETXTBSY": "another program runs it: close that program",
    "EINVAL": "the name has characters that this disk does not take: choose another name",
    "ENOMEM": "there is not enough memory: close other programs",
}


def remedy(error: OSError) -> str:
    """What the system refused, and what to do about it."""
    plain = cut(error.strerror or str(error) or type(error).__name__)
    return REMEDIES.get(errno.errorcode.get(error.errno or 0, ""), f"{plain}: check the disk and the path")


def cut(value: object, length: int = 120) -> str:
    """A value as text on one line for a sentence: the middle of what is longer than `length` is left out, and so is
    what cannot be shown (control characters, colours of a terminal, halves of characters)."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, BaseException) else repr(value)
    text = text if len(text) <= 20 * length else f"{text[: 10 * length]} {text[-10 * length :]}"
    text = " ".join(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).split())
    text = "".join(sign for sign in text if sign.isprintable() or sign in _JOINERS)
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"
