"""A captioner's file, and how frames are chosen for one.

The file is safetensors; its header entry `spacetime_captioner` holds config, vocabulary, what clips it was trained on
and the mark of the VAE whose latents it reads. Latents of another VAE mean nothing to it, so that mark is checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..building import built, check_finite, check_format, fitting, read_described
from ..files import write_tensors
from ..geometry import OURS, ClipSize
from ..headers import check_number, config_of
from ..remedies import cut
from ..trained_on import TrainedOn
from .network import CaptionerConfig, CaptionNetwork
from .vocabulary import Vocabulary

HEADER = "spacetime_captioner"
FORMAT = 2
UPDATE = "update the pack, or train the captioner again"


@dataclass(frozen=True)
class CaptionerFile:
    """What a file holds. vae: mark of the VAE. meta: `sizes` ("64x64x33"), `fps`, `steps`."""

    config: CaptionerConfig
    tokens: tuple[str, ...]
    state: Mapping[str, Tensor] = field(repr=False)
    vae: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def network(self, dtype: torch.dtype = torch.float32) -> CaptionNetwork:
        """The network with its weights, in evaluation mode. ValueError when they do not fit the config."""
        return built(CaptionNetwork, self.config, self.state, "captioner", dtype)


def save_captioner(path: Path, file: CaptionerFile) -> None:
    """Write a file that load_captioner reads."""
    described = {
        "format": FORMAT,
        "config": asdict(file.config),
        "tokens": file.tokens,
        "vae": file.vae,
        "meta": file.meta,
    }
    write_tensors(path, file.state, {HEADER: json.dumps(described)})


def load_captioner(path: Path) -> CaptionerFile:
    """Read a captioner. ValueError, in one sentence, for a broken or foreign file."""
    foreign = "holds no captioner: choose one that Train Captioner or `train captioner` made"
    return read_described(path, HEADER, lambda _tensors: foreign, UPDATE, _described, _check_weights)


def _check_weights(file: CaptionerFile) -> None:
    """ValueError unless the weights fit the config and are finite."""
    fitting(CaptionNetwork, file.config, file.state, "captioner")
    check_finite(file.state, "captioner")


def _described(header: Mapping[str, Any], state: Mapping[str, Tensor]) -> CaptionerFile:
    """What a file's header says, with its weights. ValueError for a header of another make, or values out of place."""
    check_format(header, FORMAT)
    config, tokens, meta = config_of(CaptionerConfig, header.get("config")), header.get("tokens"), header.get("meta")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError(f"tokens are {cut(tokens, 40)}, where a list of words belongs")
    if len(tokens) != config.vocabulary or len(set(tokens)) != len(tokens):
        raise ValueError(f"there are {len(set(tokens))} different words, and the network knows {config.vocabulary}")
    Vocabulary(tokens)
    if not isinstance(header.get("vae"), str) or not isinstance(meta, Mapping):
        raise ValueError("it does not say which VAE it belongs to, or on what it was trained")
    if meta.get("sizes"):
        TrainedOn.parse(meta["sizes"])
    if meta.get("fps") is not None:
        check_number("fps", meta["fps"], 0.1, 1000)
    return CaptionerFile(config, tuple(tokens), state, header["vae"], dict(meta))


def check_vae(file: CaptionerFile, mark: str, name: str) -> None:
    """ValueError unless the captioner was trained on latents of this VAE (`training.data.fingerprint`)."""
    if file.vae != mark:
        raise ValueError(
            f"the captioner {name} reads the latents of the VAE {file.vae}, not of {mark}: connect the VAE that it was "
            "trained with, or train a captioner for this one"
        )


def parsed_sizes(texts: Sequence[str]) -> tuple[ClipSize, ...]:
    """Sizes from texts such as "64x64x33" or, for loops, "64x64x32c"; a loop counts as a clip one frame longer."""
    sizes = [ClipSize.parse(text, None) for text in texts]
    return tuple(ClipSize(size.width, size.height, size.num_frames + size.cyclic) for size in sizes)


def frame_numbers(count: int, fps: float, wanted_fps: float, longest: int) -> list[int]:
    """Which of `count` frames at `fps` to look at: at wanted_fps, 1 + 4k of them, at most `longest`.

    A video that lasts longer is looked at in fewer frames a second, spread over all of it.
    """
    if count < 1:
        raise ValueError("this video has no frames: there is nothing to describe")
    usable = 1 + int((count - 1) / fps * wanted_fps + 1e-6)
    if usable > longest:
        number, step = longest, (count - 1) / (longest - 1)
    else:
        number, step = OURS.fitting(usable), fps / wanted_fps
    return [min(count - 1, round(i * step)) for i in range(number)]


Encode = Callable[[Tensor], Tensor]  # images (F, H, W, 3) in 0..1, 1 + 4k of them -> latents (1, C, T, H/8, W/8)
