"""A folder of real video files as clips to train on: captions, sizes, and which are held out.

A file's captions are those of its sidecar (sidecars.py); without one the name of its sub-folder is its class; a file at
the top without either has no caption. Scenes are cut into consecutive clips of one size each. What
was found is kept in an index, so a file is looked at again only when it has changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import torch

from ..geometry import FPS, ClipSize
from ..pixels import stored
from ..remedies import remedy
from .entries import Reason, entries_of, in_words, stamp_of
from .footage import Footage, Frames, look, read_clip
from .index import Index
from .sidecars import CaptionFiles, class_of, plain_words
from .split import Place, held_out, held_out_files
from .toy import Progress, quiet


@dataclass(frozen=True)
class FolderClip:
    """One clip to be: a stretch of a file, its size and its captions."""

    file: str  # relative to the folder, with /
    stamp: str  # changes when the file does
    start: float  # seconds
    size: ClipSize
    fps: float
    captions: tuple[str, ...]  # ("",): learned without text; (): what is written cannot be used
    footage: Footage  # what the whole file holds
    scene: int = 0  # number of the file's scene

    @property
    def class_name(self) -> str:
        """The sub-folder that the file lies in, as words; empty for a file at the top."""
        return plain_words(PurePosixPath(self.file).parent.name)

    @property
    def place(self) -> Place:
        """Where it comes from."""
        return Place(self.file, self.scene, self.start)

    @property
    def key(self) -> str:
        """A hash of where the clip comes from, its captions left out: the order hangs on it."""
        return hashlib.sha256(f"{self.file} {self.start:.3f} {self.size}".encode()).hexdigest()


@dataclass(frozen=True)
class Listing:
    """The clips of a folder in a fixed random order, and what was left out and why, by file.

    held_before: stems of files that were held out when the folder was looked at last.
    """

    clips: tuple[FolderClip, ...]
    skipped: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()  # what is written about a file, and not used
    held_before: tuple[str, ...] = ()

    @cached_property
    def held_out(self) -> frozenset[Place]:
        """Where the clips are that nothing is trained on (split.py)."""
        return held_out([clip.place for clip in self.clips], self.held_before)

    def part(self, *, held_out: bool) -> tuple[FolderClip, ...]:
        """The clips that are held out, or the others; a single clip is in both parts."""
        if len(self.clips) == 1:
            return self.clips
        return tuple(clip for clip in self.clips if (clip.place in self.held_out) == held_out)

    @property
    def uncaptioned(self) -> int:
        """How many clips are learned without text."""
        return sum(clip.captions == ("",) for clip in self.clips)

    def text(self) -> str:
        """What was found, for people."""
        sizes: dict[str, int] = {}
        for clip in self.clips:
            sizes[str(clip.size)] = sizes.get(str(clip.size), 0) + 1
        files = len({clip.file for clip in self.clips})
        found = ", ".join(f"{count} of {size}" for size, count in sizes.items())
        return "\n".join([f"{len(self.clips)} clips from {files} files: {found}", *self.problems()])

    def problems(self) -> list[str]:
        """What people should know: clips without captions, captions that are not used, and files that were skipped."""
        unread = {clip.file for clip in self.clips if not clip.captions}
        missing = (
            f"{self.uncaptioned} clips have no caption (no .txt beside the file, not in a sub-folder named after a "
            "class): the model learns them without text"
        )
        without = [(name, why) for name, why in self.notes if name in unread]
        others = [(name, why) for name, why in self.notes if name not in unread]
        return [
            *([missing] if self.uncaptioned else []),
            *in_words(without, "left out where captions are learned"),
            *in_words(others, "in part not used"),
            *in_words(self.skipped),
        ]


def list_clips(
    folder: Path,
    sizes: Sequence[ClipSize],
    *,
    fps: float = FPS,
    index: Path | None = None,
    captions: Path | None = None,
    progress: Progress = quiet,
) -> Listing:
    """Find the clips in a folder and its sub-folders.

    Each scene goes to the size with the most frames that it can fill, of those to the one nearest in aspect ratio.
    index: file in which to remember what the videos hold. captions: a set of captions that goes before the sidecars.
    ValueError when there is not one clip.
    """
    entries = entries_of(folder)
    if any(size.cyclic for size in sizes):
        raise ValueError("clips cut from video files are no loops: leave the c at the end of the size away")
    known = Index.read(index)
    found, skipped = look_through(folder, entries.media, known, index, progress)
    written = CaptionFiles(folder, entries, captions)
    clips: list[FolderClip] = []
    notes: list[Reason] = []
    for name, (stamp, footage) in found.items():
        if isinstance(footage, str):
            skipped.append((name, footage))
            continue
        sidecar = written.of(name)
        unwritten = () if sidecar.problem else class_of(folder / name, folder)
        made = [
            FolderClip(name, stamp, start, size, fps, told, footage, scene)
            for start, size, scene in windows(footage, sizes, fps)
            for told in [sidecar.at(start, size.num_frames / fps) or unwritten]
        ]
        if sidecar.problem:
            notes.append((name, sidecar.problem))
        if not made:
            shortest = min(size.num_frames for size in sizes)
            skipped.append((name, f"no scene lasts {shortest / fps:.2g} s ({shortest} frames at {fps:g} fps)"))
        elif footage.damage:
            skipped.append((f"the rest of {name}", footage.damage))
        clips += made
    skipped += entries.unused
    if not clips:
        reasons = "; ".join(f"{name}: {why}" for name, why in skipped[:5])
        raise ValueError(
            f"{folder} holds no clip to train on ({reasons or 'no video files'}): add files or ask for fewer frames"
        )
    clips.sort(key=lambda clip: clip.key)
    listing = Listing(tuple(clips), tuple(skipped), tuple(notes), known.held_out)
    held = {*held_out_files(listing.held_out, [clip.place for clip in clips]), *known.held_out} & entries.stems.keys()
    if known.files != found or set(known.held_out) != held:
        Index(found, tuple(sorted(held))).write(index)
    return listing


Found = dict[str, tuple[str, Footage | str]]


def look_through(
    folder: Path, names: Sequence[str], known: Index, index: Path | None, progress: Progress = quiet
) -> tuple[Found, list[Reason]]:
    """The stamp of each file and what it holds, or why it is not used; and files that are gone meanwhile."""
    found: Found = {}
    gone: list[Reason] = []
    for number, name in enumerate(names):
        progress(number, len(names))
        try:
            stamp, before = stamp_of(folder / name), known.files.get(name)
            found[name] = before if before and before[0] == stamp else (stamp, look_safely(folder / name))
        except OSError as error:
            gone.append((name, f"it cannot be read, {remedy(error)}"))
        if number % 50 == 49:  # many hours of video take a while: a second try begins here
            Index(known.files | found, known.held_out).write(index)
    return found, gone


def look_safely(path: Path) -> Footage | str:
    """What a file holds, or why it is skipped."""
    try:
        return look(path)
    except ValueError as error:
        return str(error)


def windows(footage: Footage, sizes: Sequence[ClipSize], fps: float) -> list[tuple[float, ClipSize, int]]:
    """Start, size and scene of the clips that a file's scenes are cut into, spread evenly over each scene."""
    found = []
    for number, scene in enumerate(footage.scenes):
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
        found += [(round(scene.start + gap + i * (length + gap), 4), size, number) for i in range(count)]
    return found


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
