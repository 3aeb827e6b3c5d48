"""What all nodes are made of: schemas that older hosts understand too, and checks around their work."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, ClassVar

from comfy_api.latest import io

from ..models.remedies import cut
from .checks import check_inputs, sentence

LONGEST = 1000  # characters of an error; a text from outside may be longer
HALF = "a text holds half of a character (a lone surrogate), which no file can hold: write it again"
SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, which no terminal can show
KNOWN = frozenset(field.name for field in fields(io.Schema))


def schema(*, rarely: Sequence[str] = (), **settings: Any) -> io.Schema:
    """io.Schema of these settings; those that this host does not know yet (search_aliases before 0.10) are left out.

    rarely: inputs that most people never touch, which newer editors show on demand. KeyError for one that is not there.
    """
    inputs = {one.id: one for one in settings["inputs"]}
    for name in rarely:
        advanced(inputs[name])
    return io.Schema(**{name: value for name, value in settings.items() if name in KNOWN})


def advanced(one: Any) -> Any:
    """The same input, which newer editors show on demand only; hosts that do not know this hand it on all the same."""
    one.extra_dict["advanced"] = True
    return one


class Node(io.ComfyNode):
    """The base of all nodes: inputs are checked before `execute`, and its foreseeable errors become sentences."""

    FILES: ClassVar[frozenset[str]] = frozenset()  # lists of files: their loaders say what is missing, and the remedy

    def __init_subclass__(cls, **settings: Any) -> None:
        """Wrap the node's own `execute`; the host's copies of a node have a wrapped one already."""
        super().__init_subclass__(**settings)
        own = cls.__dict__.get("execute")
        if own is not None and not hasattr(own.__func__, "__wrapped__"):
            cls.execute = classmethod(checked(own.__func__))

    @classmethod
    def completed(cls, output: io.NodeOutput, given: Mapping[str, Any]) -> io.NodeOutput:
        """What `execute` made of the inputs `given`; a base of several nodes may add what the editor shows of it."""
        return output


def checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """A node's `execute` that refuses values which its inputs cannot take.

    ValueErrors of its own stay as they are, if they are not too long."""
    signature = inspect.signature(execute)

    @wraps(execute)
    def run(cls: Any, *args: Any, **named: Any) -> io.NodeOutput:
        given = signature.bind(cls, *args, **named).arguments
        check_inputs(cls, given)
        try:
            output: io.NodeOutput = cls.completed(execute(cls, *args, **named), given)
            return output
        except UnicodeEncodeError:
            raise ValueError(f"{cls.define_schema().display_name}: {HALF}") from None
        except ValueError as error:
            if len(str(error)) <= LONGEST and not SURROGATES.search(str(error)):
                raise
            raise ValueError(cut(error, LONGEST)) from None  # else the whole text stands in the log and the window
        except (RuntimeError, ArithmeticError, OSError) as error:
            text = sentence(cls, given, error)
            if not text:
                raise
            raise ValueError(text) from error

    return run
