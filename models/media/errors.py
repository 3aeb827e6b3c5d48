"""What went wrong with a media file, in words: PyAV's own texts are for programmers."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..remedies import remedy

WORDS = {
    "InvalidDataError": "its data are damaged, cut off, or no video",
    "EOFError": "it ends too early",
    "DecoderNotFoundError": "no decoder for it is installed",
    "EncoderNotFoundError": "the encoder for it is not installed",
    "DemuxerNotFoundError": "this kind of container is not known",
    "StreamNotFoundError": "it holds no video",
    "PatchWelcomeError": "its kind of video is not supported",
    "MemoryError": "there is not enough memory for it",
}


def unreadable() -> tuple[type[Exception], ...]:
    """What PyAV and the system raise for broken files."""
    import av

    return (av.error.FFmpegError, OSError, EOFError)


def reason(error: BaseException) -> str:
    """An error of PyAV or the system in plain words, without numbers, paths and names of functions."""
    for kind in type(error).__mro__:
        if kind.__name__ in WORDS:
            return WORDS[kind.__name__]
    if isinstance(error, OSError) and error.errno in errno.errorcode:
        return remedy(error)
    text = str(getattr(error, "strerror", None) or error)
    return re.sub(r"\[Errno -?\d+\]\s*|'avcodec?_[^']*'|: *$", "", text).strip(" :;") or "an unknown fault"


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Inside, errors of PyAV and the system become one ValueError that begins with `what`."""
    try:
        yield
    except unreadable() as error:
        raise ValueError(f"{what}: {reason(error)}") from error
