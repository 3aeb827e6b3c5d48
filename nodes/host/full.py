"""What is said where a GPU's memory runs out, in the host's own kind of error: it then frees what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.model_management
import torch


def is_full(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    asked: Callable[[BaseException], bool] | None = getattr(comfy.model_management, "is_oom", None)  # newer hosts
    return asked is not None and asked(error)


@contextmanager
def said_when_full(sentence: Callable[[], str]) -> Iterator[None]:
    """An error of full memory inside comes out with a sentence that says what was asked for, and what to do."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        error.__traceback__ = None  # its frames hold what fills the memory
        raise torch.cuda.OutOfMemoryError(sentence()) from None
