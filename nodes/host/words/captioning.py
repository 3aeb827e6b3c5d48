"""Captioners in the host's folders, the frames of a video that one looks at, and where sets of captions are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import folder_paths
import numpy as np
import torch
from numpy.typing import NDArray

from ....models.captioner.captioner import HEADER, load_captioner
from ....models.captioner.describer import Captioner
from ....models.embedded import CAPTIONER, EMBEDDED
from ....models.files import read_tensors, write_tensors
from ....models.text.describing import Describer, LanguageDescriber
from ....models.vae.autoencoder import fingerprint
from ....models.vae.memory import encoder_bytes
from .. import folders, messages
from ..checkpoint import load_vae
from ..full import said_when_full
from ..processes.training import network_of

CAPTIONS = "captions"  # our folder with sets of captions


def captioner_names() -> list[str]:
    """The embedded captioner, then those in the folders that the host lists checkpoints from."""
    found = [CAPTIONER.stem]
    for folder in folders.MODEL_FOLDERS:
        for name in folder_paths.get_filename_list(folder):
            path = folder_paths.get_full_path(folder, name)
            if name.endswith(".safetensors") and path and name not in found and _is_captioner(Path(path)):
                found.append(name)
    return found


def _is_captioner(path: Path) -> bool:
    try:
        return f'"{HEADER}"'.encode() in folders.header_of(path)[0]
    except OSError:
        return False


def captioner_path(name: str) -> Path:
    """Where a captioner lies. ValueError when there is none of that name in the folders that the host lists."""
    if name == CAPTIONER.stem:
        path = CAPTIONER
        if path.is_file():
            return path
        raise ValueError(
            f"the embedded captioner {path.name} is missing: install the pack again, choose one that you have trained, "
            "or connect a language model that sees pictures"
        )
    for folder in folders.MODEL_FOLDERS:
        found = folder_paths.get_full_path(folder, name)
        if found:
            return Path(found)
    raise ValueError(f"there is no captioner {name!r} here: train one with Train Captioner, or choose {CAPTIONER.stem}")


def load(name: str, vae: Any = None) -> Captioner:
    """A captioner with its VAE: the one given, else the embedded checkpoint's. ValueError when they do not fit."""
    if vae is None:
        vae = load_vae(EMBEDDED)
    return read_file(captioner_path(name), vae, name)


def read_file(path: Path, vae: Any, name: str = "") -> Captioner:
    """A captioner from its file, with the VAE it was trained with; the host moves both. ValueError for another VAE."""
    with torch.inference_mode(False):
        network = network_of(vae)
        made = Captioner.of(name or path.stem, load_captioner(path), network, fingerprint(network))
        return replace(made, place=_placer(made, vae))


def _placer(captioner: Captioner, vae: Any) -> Callable[[], None]:
    """What brings a captioner and its VAE to their devices, both at once and whole, for they are plain layers."""
    manage = comfy.model_management
    patcher = comfy.model_patcher.ModelPatcher(
        captioner.network, load_device=manage.text_encoder_device(), offload_device=manage.text_encoder_offload_device()
    )
    largest = max(captioner.sizes, key=lambda size: size.width * size.height)
    shape = (1, 3, largest.num_frames, largest.height, largest.width)
    memory = encoder_bytes(captioner.vae.config, shape)

    def place() -> None:
        vae.asked = memory
        with said_when_full(vae.needs):
            manage.load_models_gpu([vae.patcher, patcher], memory_required=memory, force_full_load=True)

    return place


def describer(model: Any, length: str, *, temperature: float = 0.0, num_frames: int = 8) -> Describer:
    """What describes videos: a captioner, a language model that sees pictures, or the embedded captioner."""
    model = load(CAPTIONER.stem) if model is None else model
    if isinstance(model, Captioner):
        detailed = length == "detailed"
        return replace(model, detailed=detailed, temperature=temperature, on_wait=messages.check_interrupted)
    return LanguageDescriber(model, num_frames=num_frames, length=length)


def frames_for(describer: Describer, source: Any, fps: float) -> tuple[NDArray[np.uint8], list[float]]:
    """The frames of a FrameSource that a describer wants to see, (F, H, W, 3) uint8, and their times in seconds.

    A file that ends before its header says is looked at again, for frames from all of what is there. ValueError without
    any frame.
    """
    count = source.num_frames
    for _ in range(2):
        chosen = describer.pick(count, fps, source.width, source.height)
        found, read = _frames_at(source, chosen)
        if all(number in found for number in chosen):
            return np.stack([found[number] for number in chosen]), [number / fps for number in chosen]
        if not read:
            break
        count = read
    raise ValueError("this video has no frames: there is nothing to describe")


def _frames_at(source: Any, chosen: Sequence[int]) -> tuple[dict[int, NDArray[np.uint8]], int]:
    """These frames by their numbers as far as they are there, and how many were read to find them."""
    wanted, found, number = set(chosen), dict[int, NDArray[np.uint8]](), 0
    for piece in source.pieces():
        messages.check_interrupted()
        for index, frame in enumerate(piece, number):
            if index in wanted:
                found[index] = (frame[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        number += len(piece)
        if number > max(wanted):
            break
    return found, number


def captions_folder(name: str) -> Path:
    """The folder of a set of captions in the host's output folder. ValueError for a name that could lead elsewhere."""
    return folders.output_folder() / folders.OURS / CAPTIONS / folders.checked_name(name, "a set of captions")


def captions_mark(name: str) -> str:
    """Changes when a set of captions does; empty without a name."""
    if not name:
        return ""
    files = sorted(captions_folder(name).rglob("*"))
    described = [f"{path} {path.stat().st_mtime_ns}" for path in files if path.suffix in (".txt", ".json")]
    return hashlib.sha256("\n".join([name, *described]).encode()).hexdigest()


def publish(captioner: Path, name: str) -> Path:
    """Put a trained captioner where the loader lists it, as spacetime/<name>.safetensors; returns its path."""
    place = folders.output_folder() / "checkpoints" / folders.OURS
    write_tensors(place / f"{name}.safetensors", *read_tensors(captioner))
    return place / f"{name}.safetensors"
