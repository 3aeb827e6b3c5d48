"""Features of another encoder for the clips of a folder, in the places of their patches: targets to align a DiT with.

A folder holds a safetensors file for each video or picture, in the same sub-folders: `walk.safetensors` for walk.mp4,
or `walk.mp4.safetensors`, as it must be called where two files have one stem. Its tensor `features` (T, H, W, D) are
T maps spread evenly over the whole file's time and each over the whole picture, at any T, H and W. What a patch is to
tell is their mean over its frames and the part of the picture that it covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from numpy.typing import NDArray
from torch import Tensor

from ..files import opened
from ..geometry import OURS
from .entries import entries_of, stamp_of, stem_of
from .folder import FolderClip
from .footage import EARLY
from .shards import mark_of

NAME = "features"
KIND = ".safetensors"
TYPES = ("F16", "BF16", "F32", "F64")
CELL = 2 * OURS.space  # pixels of a patch's side
Spans = NDArray[np.float64]  # (n, 2), from and to


@dataclass(frozen=True)
class Features:
    """For each video of a folder the file with its features, all of one number of channels."""

    files: Mapping[str, Path]

    def mark(self, clips: Sequence[FolderClip]) -> str:
        """Eight letters that change when a file with features of these clips does."""
        return mark_of(stamp_of(self.files[clip.file]) for clip in clips)

    def of(self, clip: FolderClip) -> Tensor:
        """What is known of the patches of a clip, (T, h, w, D) fp16. ValueError where it is no number."""
        path, size, footage = self.files[clip.file], clip.size, clip.footage
        scale = max(size.width / footage.width, size.height / footage.height)  # as footage.covering cuts
        down = middle_cells(size.height, size.height / (footage.height * scale))
        across = middle_cells(size.width, size.width / (footage.width * scale))
        with opened(path) as file:
            held = file.get_slice(NAME)
            maps, height, width, _ = held.get_shape()
            shares = shown_maps(clip, maps)
            touched = np.flatnonzero(shares.any(axis=0))
            first, last = int(touched[0]), int(touched[-1]) + 1
            part = held[first:last].float()
        weights = [shares[:, first:last], overlaps(down, height), overlaps(across, width)]
        found = torch.einsum("thwd,at,bh,cw->abcd", part, *(torch.from_numpy(w).float() for w in weights)).half()
        if not found.isfinite().all():
            raise ValueError(
                f"{path} holds values that are no numbers, or too large for fp16, between maps {first} and {last - 1}: "
                "make its features anew"
            )
        return found


def features_of(root: Path, folder: Path, clips: Sequence[FolderClip]) -> Features:
    """The features in `root` of the videos in `folder` that clips come from.

    ValueError, before anything is encoded, for a video without a file, a file that is none, and channels that differ.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root} of features: make it, with a {KIND[1:]} file for each video")
    stems, names = entries_of(folder).stems, sorted({clip.file for clip in clips})
    files = {name: path for name in names if (path := _file_of(root, name, alone=stems[stem_of(name)] < 2))}
    missing = [name for name in names if name not in files]
    if missing:
        wanted = root / (missing[0] if stems[stem_of(missing[0])] > 1 else stem_of(missing[0]))
        raise ValueError(
            f"{len(missing)} of {len(names)} files have no features, such as {missing[0]}: there is no {wanted}{KIND}"
        )
    channels = {name: _channels(path) for name, path in files.items()}
    other = next((name for name in names if channels[name] != channels[names[0]]), None)
    if other is not None:
        raise ValueError(
            f"{files[other]} has {channels[other]} channels and {files[names[0]]} has {channels[names[0]]}: make all "
            "features with one encoder"
        )
    return Features(files)


def _file_of(root: Path, name: str, *, alone: bool) -> Path | None:
    """The file with the features of a video; None where there is none."""
    bases = (name, stem_of(name)) if alone else (name,)
    return next((path for base in bases if (path := root / f"{base}{KIND}").is_file()), None)


def _channels(path: Path) -> int:
    """Channels of the features in a file. ValueError for one that holds none."""
    with opened(path) as file:
        held = file.get_slice(NAME) if NAME in file.keys() else None  # noqa: SIM118
        shape, kind = (held.get_shape(), held.get_dtype()) if held is not None else ([], "")
    if len(shape) != 4 or min(shape) < 1 or kind not in TYPES:
        what = f"{NAME} of type {kind} and shape {tuple(shape)}" if kind else f"no tensor {NAME}"
        raise ValueError(f"{path} holds {what}: it is to hold {NAME} (T, H, W, D), floating point")
    return int(shape[3])


def shown_maps(clip: FolderClip, maps: int) -> NDArray[np.float64]:
    """How much each of a file's maps is to each latent of a clip: the share of its frames that the map stands for.

    (T, maps), rows of sum 1. A frame's map is the one of the moment at which the clip has it from the file.
    """
    moments = clip.start + np.arange(clip.size.num_frames) / clip.fps
    chosen = np.minimum((moments + EARLY) / clip.footage.seconds * maps, maps - 1).astype(int)
    of_frames = np.eye(maps)[chosen]  # (F, maps)
    rest = reduce(of_frames[1:], "(t f) m -> t m", "mean", f=OURS.time)
    return np.concatenate([of_frames[:1], rest])


def middle_cells(pixels: int, shown: float) -> Spans:
    """Where the patches of a side of so many pixels lie in the picture's whole side, of which the middle is shown."""
    edges = (1 - shown) / 2 + shown * np.linspace(0, 1, pixels // CELL + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def overlaps(spans: Spans, cells: int) -> NDArray[np.float64]:
    """How much of each span in 0..1 lies in each of the equal cells that divide 0..1: (spans, cells), rows of sum 1."""
    edges = np.linspace(0, 1, cells + 1)
    shared = np.clip(np.minimum(spans[:, 1:], edges[1:]) - np.maximum(spans[:, :1], edges[:-1]), 0, None)
    return np.asarray(shared / shared.sum(axis=1, keepdims=True))
