"""Language models by transformers: folders of safetensors, also those that see pictures, and GGUF files where llama.cpp
is missing. No download, no foreign code.
"""

from __future__ import annotations

import inspect
import io
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..extras import install
from ..files import opened, read_json
from ..precision import cpu_multiplies_bf16
from .interface import LanguageModelError, Question

NAME = "transformers"
GGUF_NEEDS = ("gguf", "accelerate")


def sees_pictures(folder: Path) -> bool:
    """Whether a folder's config is that of a vision-language model."""
    return any(key in _config(folder) for key in ("vision_config", "visual"))


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like a language model: config.json, a tokenizer and safetensors weights."""
    if not any(folder.glob("*.safetensors")) or not any(folder.glob("tokenizer*")):
        return False
    names = _architectures(_config(folder))
    if any(name.endswith("ForCausalLM") for name in names):
        return True
    # a text encoder-decoder has the same ending, but no vision part
    return sees_pictures(folder) and any(name.endswith("ForConditionalGeneration") for name in names)


def _architectures(config: Mapping[str, Any]) -> list[str]:
    """Class names that a config gives; transformers 4.57 writes those of a Qwen-VL that it saves into text_config."""
    inner = config.get("text_config")
    told = config.get("architectures") or (inner.get("architectures") if isinstance(inner, dict) else None)
    return [str(name) for name in told] if isinstance(told, list) else []


def count_parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder, from their headers alone; 0 when they cannot be read."""
    try:
        return sum(_count(path) for path in folder.glob("*.safetensors"))
    except ValueError:
        return 0


def _count(path: Path) -> int:
    with opened(path) as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / "config.json", dict, nan=True))
    except ValueError:
        return {}


def sensible_dtype(device: str) -> torch.dtype | str:
    """As the file says on a graphics card; on a CPU bf16 where it computes in it, else float32."""
    if torch.device(device).type != "cpu":
        return "auto"
    return torch.bfloat16 if cpu_multiplies_bf16() else torch.float32


class TransformersEngine:
    """A loaded model. place: brings the weights to their device before each answer (a host may manage its memory)."""

    def __init__(self, path: Path, device: str = "cpu", place: Callable[[torch.nn.Module], None] | None = None) -> None:
        """Load. LanguageModelError with one sentence when it is no language model, or a package is missing."""
        is_file = path.is_file()
        _require("transformers", *(GGUF_NEEDS if is_file else ()))
        transformers: Any = import_module("transformers")  # by name: the pack itself does not need it
        self.sees = not is_file and sees_pictures(path)
        self._place = place or (lambda module: module.to(device))
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name} if is_file else {}
        settings: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        settings |= where or {"pretrained_model_name_or_path": path}
        reader = transformers.AutoProcessor if self.sees else transformers.AutoTokenizer
        model = transformers.AutoModelForImageTextToText if self.sees else transformers.AutoModelForCausalLM
        weights = {} if is_file else {"use_safetensors": True}
        try:
            self._reader = reader.from_pretrained(**settings)
            self._model = model.from_pretrained(**settings, **weights, dtype=sensible_dtype(device)).eval()
        except Exception as error:  # transformers raises anything here; the user needs one sentence
            first = " ".join(str(error).split())[:200]
            raise LanguageModelError(f"{path} can not be loaded as a language model: {first}") from error
        self._lock = threading.Lock()

    def answer(self, question: Question, on_text: Callable[[str], None]) -> str:
        """The whole answer. on_text gets what there is so far between two tokens; if it raises, this ends."""
        with self._lock:
            self._place(self._model)
            inputs = {name: tensor.to(self._model.device) for name, tensor in self._encode(question).items()}
            start = inputs["input_ids"].shape[1]
            tokenizer = getattr(self._reader, "tokenizer", self._reader)

            def stop(ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
                on_text(str(tokenizer.decode(ids[0, start:], skip_special_tokens=True)))
                return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)

            warm = bool(question.temperature)
            padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
            # transformers draws from the global generators
            with seeded(question.seed, inputs["input_ids"].device), torch.inference_mode():
                output = self._model.generate(
                    **inputs,
                    max_new_tokens=question.max_tokens,
                    do_sample=warm,
                    **({"temperature": question.temperature, "top_p": 0.9} if warm else {}),
                    pad_token_id=padding,
                    stopping_criteria=[stop],
                )
        return str(tokenizer.decode(output[0, start:], skip_special_tokens=True)).strip()

    def _encode(self, question: Question) -> dict[str, torch.Tensor]:
        """The chat as tensors, by the model's own template where it has one."""
        found = self._read(question)
        taken = inspect.signature(self._model.forward).parameters  # a tokenizer may give more than its model takes
        return {name: found[name] for name in found if name in taken}

    def _read(self, question: Question) -> Mapping[str, torch.Tensor]:
        turns = question.turns()
        if not getattr(self._reader, "chat_template", None):
            text = "\n\n".join([*(text for _, text in turns), "Caption: "])
            plain: Mapping[str, torch.Tensor] = self._reader(text=text, return_tensors="pt")
            return plain
        messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
        if self.sees:
            messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
            messages[-1]["content"][:0] = [{"type": "image"} for _ in question.images]
        text = self._reader.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        pictures = [_picture(data) for data in question.images]
        settings: dict[str, Any] = {"images": pictures} if pictures else {}
        found: Mapping[str, torch.Tensor] = self._reader(
            text=text, return_tensors="pt", add_special_tokens=False, **settings
        )
        return found


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of the CPU and of a device with this seed inside, and as they were after.

    `torch.manual_seed` would reseed those of all devices, also of ones that are not in use yet.
    """
    generators = [torch.default_generator, *_generators_of(device)]
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed % 2**63)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _generators_of(device: torch.device) -> list[torch.Generator]:
    """The global generator of a device other than the CPU."""
    if device.type == "mps":
        return [torch.mps._get_default_mps_generator()]
    module = getattr(torch, device.type, None)
    found = getattr(module, "default_generators", ())
    index = device.index if device.index is not None else module.current_device() if module and found else 0
    return [found[index]] if found else []


def _picture(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise LanguageModelError(f"this language model needs the packages {', '.join(missing)}: {install(*missing)}")
