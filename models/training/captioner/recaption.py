"""Describe the clips of a folder: captions to train on, for footage that has none or poor ones.

They go into a set of captions (sidecars.py), one file after another, so that a run that was stopped continues. Each
clip is described as training will see it: the same stretch of time, cut to the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...clips.entries import entries_of
from ...clips.folder import FolderClip
from ...clips.footage import read_clip
from ...clips.sidecars import CaptionFiles, content_of
from ...clips.toy import Progress, quiet
from ...text.describing import Describer

MISSING, ALL = "clips without a caption", "all clips"
WHICH = (MISSING, ALL)
STOP_AFTER = 5  # failures in a row, without a single success: the describer is out of order, not the files


@dataclass
class Recaptioning:
    """What came of a run, by file. examples: a few captions."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        left = f", {len(self.left)} left for later" if self.left else ""
        lines = [f"{len(self.written)} files described, {len(self.kept)} kept as they were{left}"]
        lines += [f"not described: {problem}" for problem in self.problems]
        return "\n".join([*lines, *(f"for example: {example}" for example in self.examples)])


def describe_folder(
    folder: Path,
    clips: Sequence[FolderClip],
    captions: Path,
    describer: Describer,
    *,
    which: str = MISSING,
    limit: int = 0,
    seed: int = 0,
    progress: Progress = quiet,
) -> Recaptioning:
    """Describe clips into the set of captions `captions`; files that are done, or have captions, are kept.

    which: WHICH. limit: describe at most so many files, 0 all. ValueError when `which` is unknown or the describer
    fails at the first files; those that cannot be read or described are listed.
    """
    if which not in WHICH:
        raise ValueError(f"there is no choice {which!r}: use one of {', '.join(WHICH)}")
    by_file: dict[str, list[FolderClip]] = {}
    for clip in sorted(clips, key=lambda clip: (clip.file, clip.start)):
        by_file.setdefault(clip.file, []).append(clip)
    written = CaptionFiles(folder, entries_of(folder), captions)
    result = Recaptioning()
    for number, (name, group) in enumerate(by_file.items()):
        progress(number, len(by_file))
        if _is_done(written, group, describer) or (which == MISSING and _have_captions(written, group)):
            result.kept.append(name)
            continue
        if limit and len(result.written) >= limit:
            result.left.append(name)
            continue
        try:
            made_from = {"file": name, "stamp": group[0].stamp, "content": content_of(folder / name)}
            described = [describe_clip(folder, clip, describer, seed) for clip in group]
        except (ValueError, RuntimeError, OSError) as error:
            result.problems.append(f"{name}: {error}")
            if len(result.problems) >= STOP_AFTER and not result.written:
                raise ValueError(f"none of the first {STOP_AFTER} files could be described; {error}") from error
            continue
        written.write(name, described, made_from | {"described_by": describer.name})
        result.written.append(name)
        if len(result.examples) < 3:
            result.examples.append(str(described[0]["caption"]))
    return result


def describe_clip(folder: Path, clip: FolderClip, describer: Describer, seed: int) -> dict[str, object]:
    """A clip's entry in its sidecar."""
    size = clip.size
    scale = max(1, round(describer.side / max(size.width, size.height)))
    width, height = scale * size.width, scale * size.height
    frames = read_clip(folder / clip.file, clip.start, size.num_frames, clip.fps, width, height)
    chosen = describer.pick(len(frames), clip.fps, width, height)
    description = describer.look(frames[chosen], [number / clip.fps for number in chosen], seed=seed)
    parts = asdict(description)
    end = round(clip.start + size.num_frames / clip.fps, 4)
    return {"start": clip.start, "end": end, "caption": parts.pop("paragraph"), "fields": parts}


def _is_done(written: CaptionFiles, group: Sequence[FolderClip], describer: Describer) -> bool:
    """Whether the set holds what this describer says of these clips of the file as it is now."""
    name = group[0].file
    record = written.record(name)
    if not record or record.get("described_by") != describer.name:
        return False
    try:  # sets from before there was a mark of the content have the stamp alone
        same = record["content"] == content_of(written.folder / name) if "content" in record else None
    except OSError:
        return False
    if not (record.get("stamp") == group[0].stamp if same is None else same):
        return False
    return [entry.get("start") for entry in record["clips"]] == [clip.start for clip in group]


def _have_captions(written: CaptionFiles, group: Sequence[FolderClip]) -> bool:
    """Whether each clip of a file has a caption of its own, in the set or beside the file; a class name is none."""
    sidecar = written.of(group[0].file)
    return all(sidecar.at(clip.start, clip.size.num_frames / clip.fps) for clip in group)
