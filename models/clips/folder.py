"""A folder of real video files as clips to train on: captions, sizes, held-out clips, and a cache of their latents.

A file's captions are those of its sidecar (sidecars.py); without one the name of its sub-folder is its class; a file at
the top without either has no caption. Scenes are cut into consecutive clips of one size each. What
was found is kept in an index, so a file is looked at again only when it has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import torch

from ..files import read_json, write_json
from ..pixels import from_uint8, stored
from ..text.encoder import TextEncoder
from ..vae.autoencoder import VideoVAE
from .cache import FPS, SHARD, ClipSize, Progress, fingerprint, quiet, remove_damaged, write_shard
from .footage import IMAGES, VIDEOS, Footage, Frames, Scene, look, read_clip
from .sidecars import class_of, plain_words, sidecar_of

MAX_INDEX = 400_000_000  # bytes: about a million files
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class FolderClip:
    """One clip to be: a stretch of a file, its size and its captions."""

    file: str  # relative to the folder, with /
    stamp: str  # changes when the file does
    start: float  # seconds
    size: ClipSize
    fps: float
    captions: tuple[str, ...]

    @property
    def class_name(self) -> str:
        """The sub-folder that the file lies in, as words; empty for a file at the top."""
        return plain_words(PurePosixPath(self.file).parent.name)

    @property
    def key(self) -> str:
        """A hash of where the clip comes from, its captions left out: the order and the held-out part hang on it."""
        return hashlib.sha256(f"{self.file} {self.start:.3f} {self.size}".encode()).hexdigest()


@dataclass(frozen=True)
class Listing:
    """The clips of a folder in a fixed random order, and what was left out and why, by file."""

    clips: tuple[FolderClip, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    uncaptioned: int = 0

    def part(self, *, held_out: bool) -> tuple[FolderClip, ...]:
        """A tenth of the clips, at least one, is held out; a single clip is in both parts."""
        if len(self.clips) == 1:
            return self.clips
        count = max(1, round(HELD_OUT_SHARE * len(self.clips)))
        return self.clips[:count] if held_out else self.clips[count:]

    def text(self) -> str:
        """What was found, for people."""
        sizes: dict[str, int] = {}
        for clip in self.clips:
            sizes[str(clip.size)] = sizes.get(str(clip.size), 0) + 1
        files = len({clip.file for clip in self.clips})
        found = ", ".join(f"{count} of {size}" for size, count in sizes.items())
        return "\n".join([f"{len(self.clips)} clips from {files} files: {found}", *self.problems()])

    def problems(self) -> list[str]:
        """What people should know: clips without captions, and files that were skipped."""
        skipped = [f"skipped {name}: {why}" for name, why in self.skipped]
        if not self.uncaptioned:
            return skipped
        missing = (
            f"{self.uncaptioned} clips have no caption (no .txt beside the file, not in a sub-folder named after a "
            "class): the model learns them without text"
        )
        return [missing, *skipped]


def list_clips(
    folder: Path, sizes: Sequence[ClipSize], *, fps: float = FPS, index: Path | None = None,
    captions: Path | None = None, progress: Progress = quiet,
) -> Listing:  # fmt: skip
    """Find the clips in a folder and its sub-folders.

    Each scene goes to the size with the most frames that it can fill, of those to the one nearest in aspect ratio.
    index: file in which to remember what the videos hold. captions: a set of captions that goes before the sidecars.
    ValueError when there is not one clip.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: make it and put video files into it")
    if any(size.cyclic for size in sizes):
        raise ValueError("clips cut from video files are no loops: leave the c at the end of the size away")
    known = read_index(index)
    paths = media_files(folder)
    footages: dict[str, tuple[str, Footage | str]] = {}
    for number, path in enumerate(paths):
        progress(number, len(paths))
        name, stamp = path.relative_to(folder).as_posix(), stamp_of(path)
        before = known.get(name)
        footages[name] = before if before and before[0] == stamp else (stamp, look_safely(path, folder))
        if number % 50 == 49:  # many hours of video take a while: a second try begins here
            write_index(index, known | footages)
    write_index(index, footages)
    clips: list[FolderClip] = []
    skipped: list[tuple[str, str]] = []
    for name, (stamp, footage) in footages.items():
        if isinstance(footage, str):
            skipped.append((name, footage))
            continue
        sidecar, unwritten = sidecar_of(folder / name, folder, captions), class_of(folder / name, folder)
        made = [
            FolderClip(name, stamp, start, size, fps, sidecar.at(start, size.num_frames / fps) or unwritten)
            for start, size in windows(footage, sizes, fps)
        ]
        if not made:
            shortest = min(size.num_frames for size in sizes)
            skipped.append((name, f"no scene lasts {shortest / fps:.2g} s ({shortest} frames at {fps:g} fps)"))
        elif footage.damage:
            skipped.append((f"the rest of {name}", footage.damage))
        clips += made
    if not clips:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped[:5])
        raise ValueError(
            f"{folder} holds no clip to train on ({reasons or 'no video files'}): add files or ask for fewer frames"
        )
    clips.sort(key=lambda clip: clip.key)
    return Listing(tuple(clips), tuple(skipped), sum(clip.captions == ("",) for clip in clips))


def media_files(folder: Path) -> list[Path]:
    """All videos and pictures of a folder and its sub-folders, hidden ones left out."""
    found = []
    for root, folders, names in os.walk(folder):  # does not follow links to other folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(names) if Path(name).suffix.lower() in VIDEOS | IMAGES]
    return [path for path in found if not path.name.startswith(".")]


def look_safely(path: Path, folder: Path) -> Footage | str:
    """What a file holds, or why it is skipped."""
    if not path.resolve().is_relative_to(folder.resolve()):
        return "it is a link that leads out of the folder"
    try:
        return look(path)
    except ValueError as error:
        return str(error)


def stamp_of(path: Path) -> str:
    """Changes when the file does."""
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def windows(footage: Footage, sizes: Sequence[ClipSize], fps: float) -> list[tuple[float, ClipSize]]:
    """Start and size of the clips that a file's scenes are cut into, spread evenly over each scene."""
    found = []
    for scene in footage.scenes:
        duration = scene.end - scene.start
        fitting = [size for size in sizes if (size.num_frames - 1) / fps < duration - 1e-3]
        if footage.num_frames == 1:
            fitting = [size for size in sizes if size.num_frames == 1]
        if not fitting:
            continue
        longest = max(size.num_frames for size in fitting)
        aspect = footage.width / footage.height
        size = min(
            (size for size in fitting if size.num_frames == longest),
            key=lambda size: abs(math.log(size.width / size.height / aspect)),
        )
        length = size.num_frames / fps
        count = max(1, int(duration / length + 1e-3)) if size.num_frames > 1 else 1
        gap = max(0.0, duration - count * length) / (count + 1)
        found += [(round(scene.start + gap + i * (length + gap), 4), size) for i in range(count)]
    return found


def read_index(path: Path | None) -> dict[str, tuple[str, Footage | str]]:
    """What `write_index` wrote; empty when there is nothing or it cannot be read."""
    try:
        entries = read_json(path, dict, limit=MAX_INDEX) if path else {}
        return {
            name: (stamp, held if isinstance(held, str) else _footage(held)) for name, (stamp, held) in entries.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _footage(held: dict[str, object]) -> Footage:
    footage = Footage(**held)  # type: ignore[arg-type]
    return replace(footage, scenes=tuple(Scene(**scene) for scene in footage.scenes))  # type: ignore[arg-type]


def write_index(path: Path | None, footages: dict[str, tuple[str, Footage | str]]) -> None:
    """Remember what the files hold, whole or not at all."""
    if path is None:
        return
    entries = {
        name: [stamp, held if isinstance(held, str) else asdict(held)] for name, (stamp, held) in footages.items()
    }
    write_json(path, entries)


def frames_of(folder: Path, clip: FolderClip) -> Frames:
    """The pixels of a clip, (F, H, W, 3) uint8. ValueError when the file no longer gives them."""
    size = clip.size
    return read_clip(folder / clip.file, clip.start, size.num_frames, clip.fps, size.width, size.height)


def clip_pixels(folder: Path, clips: Sequence[FolderClip], progress: Progress = quiet) -> list[torch.Tensor]:
    """Clips as bytes (3, F, H, W). Those that cannot be read are left out; ValueError when none is left."""
    pixels, problem = [], "there are none"
    for number, clip in enumerate(clips):
        progress(number, len(clips))
        try:
            pixels.append(stored(frames_of(folder, clip)))
        except ValueError as error:
            problem = f"{clip.file}: {error}"
    if not pixels:
        raise ValueError(f"no clip of {folder} can be read: {problem}")
    return pixels


@torch.no_grad()
def cache_folder(
    out: Path,
    folder: Path,
    clips: Sequence[FolderClip],
    vae: VideoVAE,
    encoder: TextEncoder,
    progress: Progress = quiet,
) -> list[str]:
    """Encode and store clips in shards that LatentCache reads; returns notices of files and shards that were broken.

    Shards are named by the VAE and the clips in them: those that exist are kept, those of an earlier state are removed,
    and a damaged one is made anew.
    """
    dtype = vae.encoder.linear.weight.dtype
    mark, problems, done = fingerprint(vae), [], 0
    by_size: dict[ClipSize, list[FolderClip]] = {}
    for clip in clips:
        by_size.setdefault(clip.size, []).append(clip)
    wanted: list[Path] = []
    for size, group in by_size.items():
        for start in range(0, len(group), SHARD):
            shard = group[start : start + SHARD]
            path = out / f"clips-{size}-{mark}-{clips_mark(shard)}-{start:06d}.safetensors"
            wanted.append(path)
            problems += remove_damaged(path)
            latents: list[torch.Tensor] = []
            texts: list[list[str]] = []
            classes: list[str] = []
            for clip in [] if path.exists() else shard:
                progress(done + len(texts), len(clips))
                try:
                    pixels = from_uint8(frames_of(folder, clip))
                except ValueError as error:
                    problems.append(f"skipped {clip.file}: {error}")
                    continue
                latents.append(vae.encode(pixels[None].to(dtype))[0])
                texts.append(list(clip.captions))
                classes.append(clip.class_name)
            done += len(shard)
            if latents:
                write_shard(path, latents, texts, classes, size, encoder, clips[0].fps)
    for stale in set(out.glob("clips-*.safetensors")) - set(wanted):
        stale.unlink()
    return problems


def clips_mark(clips: Sequence[FolderClip]) -> str:
    """Eight letters that change with the clips' files, places, sizes and captions."""
    described = [(clip.file, clip.stamp, clip.start, clip.fps, str(clip.size), *clip.captions) for clip in clips]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]
