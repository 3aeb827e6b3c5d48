"""Where this ComfyUI keeps what has to do with language models: the user's list of endpoints, folders, pictures."""

from __future__ import annotations

import io
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from PIL import Image

from ...models.text.configuration import FILE, Configuration, read_configuration
from ...models.text.local_models import LocalModel, find_model_folders
from . import check_interrupted

MODEL_FOLDERS = ("LLM", "llm", "language_models", "text_encoders")
LONGEST_SIDE = 768  # of a picture that a language model sees


def configuration_path() -> Path:
    """The user's own file, in ComfyUI's user folder."""
    return Path(folder_paths.get_user_directory()) / "default" / FILE


def configuration() -> Configuration:
    """The file as it is now. ValueError with one sentence when it is wrong."""
    return read_configuration(configuration_path())


def model_folders() -> dict[str, Path]:
    """Language models in ComfyUI's model folders, by name."""
    roots = [Path(folder_paths.models_dir) / name for name in MODEL_FOLDERS]
    for name in MODEL_FOLDERS:
        if name in folder_paths.folder_names_and_paths:
            roots += [Path(path) for path in folder_paths.get_folder_paths(name)]
    return find_model_folders(list(dict.fromkeys(roots)))


def local_model(name: str) -> LocalModel:
    """A model of `model_folders`, on the device that ComfyUI uses for text encoders."""
    found = model_folders()
    if name not in found:
        place = Path(folder_paths.models_dir) / MODEL_FOLDERS[0]
        known = f" (there: {', '.join(found)})" if found else ""
        raise ValueError(
            f"there is no language model folder {name!r}{known}: put a folder with config.json, tokenizer files and "
            f".safetensors weights into {place}"
        )
    device = comfy.model_management.text_encoder_device()
    return LocalModel(folder=found[name], device=str(device), on_wait=check_interrupted)


def png_of(images: torch.Tensor) -> bytes:
    """The first picture of an IMAGE as a PNG file, not larger than a language model needs."""
    pixels = images[0, ..., :3].detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
