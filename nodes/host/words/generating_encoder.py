"""A CLIP of core that generates text, as newer ComfyUIs have them (Gemma, Qwen-VL and others), as a language model.

What is used of it: `tokenize(text, images=..., min_length=1)`, `generate(tokens, do_sample=..., max_length=..., ...)`
and `decode(ids)`, as core's own node Generate Text uses them. Releases differ in the settings of generate, so only
those that the object at hand names are given.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ....models.text.interface import LanguageModelError, Question

TOKENS = 500


def generates_text(encoder: Any) -> bool:
    """Whether this ComfyUI's CLIP objects can write at all."""
    return all(callable(getattr(encoder, name, None)) for name in ("tokenize", "generate", "decode"))


@dataclass(frozen=True)
class GeneratingEncoder:
    """SPACETIME_LANGUAGE_MODEL over a CLIP. ComfyUI itself loads, moves and interrupts it."""

    encoder: Any
    temperature: float = 0.3

    def __post_init__(self) -> None:
        if not generates_text(self.encoder):
            raise ValueError(
                "this ComfyUI's CLIP objects cannot generate text: update ComfyUI to a version with the node Generate "
                "Text, or choose another language model here"
            )

    def describe(self) -> str:
        """What it is."""
        return "the connected CLIP"

    def __call__(self, question: Question, /) -> str:
        """Ask once. LanguageModelError when its model writes no text."""
        question = question.within(TOKENS, self.temperature)
        # the template of a text encoder has one turn, and not every one takes an instruction apart from it
        text = "\n\n".join(part for _, part in question.turns())
        pictures = {"images": [_tensor(data) for data in question.images]} if question.images else {}
        settings = {
            "do_sample": True,
            "max_length": question.max_tokens,
            "temperature": question.temperature,
            "top_k": 64,
            "top_p": 0.95,
            "min_p": 0.05,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "seed": question.seed,
            "mtp": True,
        }
        try:
            tokens = self.encoder.tokenize(text, min_length=1, **pictures)
            ids = self.encoder.generate(tokens, **_known(self.encoder.generate, settings))
            answer = str(self.encoder.decode(ids)).strip()
        except (AttributeError, TypeError, NotImplementedError) as error:
            raise LanguageModelError(
                "the model in the connected CLIP writes no text: load a text encoder that is a language model, such as "
                f"Gemma 3 or Qwen ({type(error).__name__})"
            ) from error
        if not answer:
            raise LanguageModelError("the connected CLIP gave an empty answer")
        return answer


def _known(function: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return settings
    return {name: value for name, value in settings.items() if name in parameters}


def _tensor(data: bytes) -> torch.Tensor:
    """A picture file as an IMAGE."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels)[None]  # (1,H,W,3)
