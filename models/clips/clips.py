"""A data set of captioned clips, described: enough to make the pixels, small enough to travel between nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..geometry import FPS, ClipSize
from .encode import clips_mark
from .folder import FolderClip, Listing, clip_pixels, list_clips
from .toy import Progress, quiet, toy_pixels

HELD_OUT = 1_000_000  # toy-world clips from this number on are never trained on
JUDGED = 24  # held-out clips that a VAE is judged on


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips of a folder of video files, or of the toy world where `folder` is empty."""

    sizes: tuple[ClipSize, ...]
    folder: str = ""
    count: int = 400  # toy world: clips of each size; folder: at most so many pixels are held for the VAE
    fps: float = FPS
    index: str = ""  # file that remembers what the videos hold
    note: str = ""  # what was found, for people
    captions: str = ""  # folder of a set of captions (sidecars.py)

    @property
    def size_text(self) -> str:
        """The sizes as the command line takes them."""
        return ",".join(map(str, self.sizes))

    def vae_arguments(self) -> list[str]:
        """Options of `train vae` that name these clips."""
        shared = ["--size", self.size_text, "--clips", str(self.count)]
        return [*shared, *self._folder_arguments("--data")]

    def cache_arguments(self, *, held_out: bool) -> list[str]:
        """Options of `train cache` that name these clips."""
        count = max(1, self.count // 10) if held_out else self.count
        source = self._folder_arguments("--clips") or ["--count", str(count)]
        return ["--size", self.size_text, *source, *(["--held-out"] if held_out else [])]

    def _folder_arguments(self, option: str) -> list[str]:
        if not self.folder:
            return []
        places = {"--index": self.index, "--captions": self.captions}
        given = [part for name, value in places.items() if value for part in (name, value)]
        return [option, self.folder, "--fps", str(self.fps), *given]

    def folder_clips(self, *, held_out: bool, progress: Progress = quiet) -> tuple[FolderClip, ...]:
        """The clips of the folder that are for training, or those that are held out."""
        return self.listing(progress).part(held_out=held_out)

    def listing(self, progress: Progress = quiet) -> Listing:
        """All clips of the folder, and what was left out."""
        index, captions = (Path(text) if text else None for text in (self.index, self.captions))
        return list_clips(
            Path(self.folder), self.sizes, fps=self.fps, index=index, captions=captions, progress=progress
        )

    def pixels(self, progress: Progress = quiet) -> tuple[list[Tensor], list[Tensor], str]:
        """Clips to train a VAE on and to judge it on, bytes (3, F, H, W), and a text that stands for this choice."""
        if not self.folder:
            judged = max(1, JUDGED // len(self.sizes))
            return (
                _joined([toy_pixels(0, self.count, size, progress) for size in self.sizes]),
                _joined([toy_pixels(HELD_OUT, judged, size) for size in self.sizes]),
                f"{self.count} rendered clips of {self.size_text}",
            )
        listing = self.listing()
        clips = listing.part(held_out=False)[: self.count]
        judged_clips = listing.part(held_out=True)[:JUDGED]
        folder, data = Path(self.folder), clips_mark(clips, captions=False)
        return clip_pixels(folder, clips, progress), clip_pixels(folder, judged_clips), data


def _joined(lists: Sequence[list[Tensor]]) -> list[Tensor]:
    return [clip for clips in lists for clip in clips]
