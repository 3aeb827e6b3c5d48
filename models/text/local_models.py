"""A language model from a folder of this machine, read by transformers: safetensors, no download, no foreign code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .language_models import LanguageModelError, nothing


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like a causal language model: config.json, a tokenizer and safetensors weights."""
    config = folder / "config.json"
    if not config.is_file() or not any(folder.glob("*.safetensors")) or not any(folder.glob("tokenizer*")):
        return False
    try:
        architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return False
    return any(str(name).endswith("ForCausalLM") for name in architectures)


def find_model_folders(roots: Sequence[Path], depth: int = 2) -> dict[str, Path]:
    """Name (path below its root, with /) -> folder, for every model folder in these roots."""
    found: dict[str, Path] = {}
    for root in roots:
        for level in range(1, depth + 1):
            for config in sorted(root.glob("*/" * level + "config.json")):
                if is_model_folder(config.parent):
                    found.setdefault(config.parent.relative_to(root).as_posix(), config.parent)
    return found


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """Loaded at the first question. on_wait is called between tokens and may raise to stop."""

    folder: Path
    device: str = "cpu"
    dtype: str = "auto"
    max_tokens: int = 400
    temperature: float = 0.3
    on_wait: Callable[[], None] = field(default=nothing, repr=False, compare=False)
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def describe(self) -> str:
        """Which model this is."""
        return f"local model {self.folder.name}"

    def __call__(self, instruction: str, message: str, *, seed: int = 0, images: Sequence[bytes] = ()) -> str:
        """Ask once. LanguageModelError when the folder can not be loaded or nothing comes back."""
        if images:
            raise LanguageModelError(f"{self.describe()} cannot see pictures: use an endpoint whose model can")
        with self._lock:
            tokenizer, model = self.load()
            ids, mask = self._encode(tokenizer, instruction, message)
            # transformers draws from the global generator: give it the seed, and put the old state back after
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                torch.manual_seed(seed % 2**63)
                output = model.generate(
                    ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    max_new_tokens=self.max_tokens,
                    do_sample=self.temperature > 0,
                    **({"temperature": self.temperature, "top_p": 0.9} if self.temperature > 0 else {}),
                    pad_token_id=tokenizer.pad_token_id
                    if tokenizer.pad_token_id is not None
                    else tokenizer.eos_token_id,
                    stopping_criteria=[self._stop],
                )
        text = str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)).strip()
        if not text:
            raise LanguageModelError(f"{self.describe()} gave an empty answer")
        return text

    def load(self) -> tuple[Any, Any]:
        """(tokenizer, model); kept for the next question."""
        if not self._loaded:
            if find_spec("transformers") is None:
                raise LanguageModelError(
                    "local language models need the package transformers: pip install transformers"
                )
            transformers: Any = import_module("transformers")  # by name: the pack itself does not need it
            settings: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, **settings)
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    self.folder, use_safetensors=True, dtype=self.dtype, **settings
                )
            except Exception as error:  # transformers raises anything here; the user needs one sentence
                first = " ".join(str(error).split())[:200]
                raise LanguageModelError(
                    f"the folder {self.folder} can not be loaded as a language model: {first}"
                ) from error
            self._loaded.update(tokenizer=tokenizer, model=model.to(self.device).eval())
        return self._loaded["tokenizer"], self._loaded["model"]

    def _encode(
        self, tokenizer: Callable[..., Any], instruction: str, message: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        template = getattr(tokenizer, "apply_chat_template", None)
        if template is not None and getattr(tokenizer, "chat_template", None):
            turns = [{"role": "system", "content": instruction}, {"role": "user", "content": message}]
            text = template(turns, tokenize=False, add_generation_prompt=True)
            encoded = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        else:
            encoded = tokenizer(f"{instruction}\n\n{message}\n\nCaption: ", return_tensors="pt")
        return encoded["input_ids"], encoded["attention_mask"]

    def _stop(self, ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        self.on_wait()
        return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
