"""Describe a video with a language model that sees pictures: frames with their times in, fields and a paragraph out.

What such models answer is checked: where it is no description (a refusal, a loop, a web page, nothing) they are asked
again, with the reason. Text instead of JSON is taken too; its sentences are sorted into the fields.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files import read_text
from .answers import BROKEN, objects_in, unwrap, without_thoughts
from .captions import ATTEMPTS
from .cleaning import without_control
from .description import Description, from_fields
from .faults import find_faults
from .interface import LanguageModel, Question

LONGEST_SIDE = 512  # pixels of a frame that a language model sees
MAX_WORDS = 400
LENGTHS = {"detailed": "40 to 90", "short": "8 to 20"}
Frames = NDArray[np.uint8]  # (F, H, W, 3)


class Describer(Protocol):
    """Anything that describes a video."""

    @property
    def name(self) -> str:
        """Which it is, for records."""

    @property
    def side(self) -> int:
        """Pixels of the longer side of the pictures that it looks at."""

    def pick(self, count: int, fps: float, width: int, height: int, /) -> list[int]:
        """The numbers of those of `count` frames at `fps` that it wants to see."""

    def look(self, frames: Frames, times: Sequence[float], /, *, seed: int = 0) -> Description:
        """Describe frames (F, H, W, 3) uint8 at `times` in seconds. ValueError or RuntimeError with one sentence."""


@dataclass(frozen=True)
class LanguageDescriber:
    """Shows evenly spaced frames to a language model."""

    model: LanguageModel
    num_frames: int = 8
    length: str = "detailed"
    side: int = LONGEST_SIDE

    def __post_init__(self) -> None:
        if self.length not in LENGTHS:
            raise ValueError(f"there is no length {self.length!r}: choose one of {', '.join(LENGTHS)}")

    @property
    def name(self) -> str:
        """The model's own name for itself."""
        told = getattr(self.model, "describe", None)
        return str(told()) if callable(told) else type(self.model).__name__

    def pick(self, count: int, _fps: float, _width: int, _height: int, /) -> list[int]:
        """First, last and frames evenly between them."""
        return evenly(count, self.num_frames)

    def look(self, frames: Frames, times: Sequence[float], /, *, seed: int = 0) -> Description:
        """Ask, check, ask again with the reason. RuntimeError when no answer can be used."""
        instruction = Template(_file("describe.txt")).safe_substitute(words=LENGTHS[self.length])
        pictures = [png(frame, self.side) for frame in frames]
        shown = ", ".join(f"{time:.2f} s" for time in times)
        message = f"{len(pictures)} frames of one video, in order, at {shown}."
        problem = ""
        for attempt in range(ATTEMPTS):
            again = f"\nYour last answer could not be used: {problem}. Answer with the JSON object alone."
            asked = message + (again if problem else "")
            answer = self.model(Question(instruction, asked, seed + attempt, images=tuple(pictures)))
            try:
                return read_answer(str(answer), instruction)
            except ValueError as error:
                problem = str(error)
        raise RuntimeError(f"the {ATTEMPTS} answers of {self.name} are no description: {problem}")


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` different numbers from 0 to count - 1, evenly spaced. ValueError when there is none."""
    if count < 1:
        raise ValueError("this video has no frames: there is nothing to describe")
    return sorted({int(number) for number in np.linspace(0, count - 1, min(wanted, count)).round()})


def png(frame: NDArray[np.uint8], side: int) -> bytes:
    """A frame (H, W, 3) as a PNG file whose longer side is at most `side`."""
    picture = Image.fromarray(frame)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def read_answer(answer: str, instruction: str = "") -> Description:
    """The description that a language model's answer holds. ValueError says in plain words why there is none."""
    answer, problem = without_thoughts(answer)
    if problem:
        raise ValueError(problem)
    found = next((value for value in objects_in(answer) if isinstance(value, dict) and value), None)
    if found is not None:
        description = from_fields(found)
    else:
        plain = unwrap(answer)
        if plain.problem:
            raise ValueError(plain.problem)
        if re.search(r'[{\[]|"\s?:', plain.text[:200]):
            raise ValueError(BROKEN)
        description = Description.of_text(without_control(plain.text))
    faults = find_faults(without_control(description.paragraph), "", instruction, MAX_WORDS)
    if faults:
        raise ValueError("; ".join(faults))
    return description


def _file(name: str) -> str:
    return read_text(Path(__file__).parent / "prompts" / name).strip()
