"""The latents of a folder's clips, kept in shards: encoded once for all runs that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..geometry import ClipSize
from ..pixels import from_uint8
from ..text.encoder import TextEncoder
from ..vae.autoencoder import VideoVAE, fingerprint
from .cache import text_features
from .features import Features
from .folder import FolderClip, frames_of
from .index import READER
from .shards import SHARD, mark_of, remove_damaged, write_shard
from .toy import Progress, quiet


@torch.no_grad()
def cache_folder(
    out: Path,
    folder: Path,
    clips: Sequence[FolderClip],
    vae: VideoVAE,
    encoder: TextEncoder,
    progress: Progress = quiet,
    *,
    known: Features | None = None,
) -> list[str]:
    """Encode and store clips in shards that LatentCache reads; returns notices of files and shards that were broken.

    Shards are named by the VAE and the clips in them: those that exist are kept, those of an earlier state are removed,
    and a damaged one is made anew. Clips whose captions cannot be used are left out. ValueError when none is left.
    known: features of another encoder, kept as well to align a DiT with.
    """
    mark, done = fingerprint(vae), 0
    told = [clip for clip in clips if clip.captions]
    if not told:
        raise ValueError(
            f"no caption of {folder} can be used: each file needs a .txt of its own in UTF-8, called clip.mp4.txt "
            "where two files have the name clip"
        )
    problems = [
        f"left out {name}: its captions are not used" for name in sorted({c.file for c in clips if not c.captions})
    ]
    by_size: dict[ClipSize, list[FolderClip]] = {}
    for clip in told:
        by_size.setdefault(clip.size, []).append(clip)
    shards = [
        (
            out / f"clips-{size}-{mark}-{clips_mark(part, known)}-{start:06d}.safetensors",
            part,
        )
        for size, group in by_size.items()
        for start in range(0, len(group), SHARD)
        for part in [group[start : start + SHARD]]
    ]
    for path, shard in shards:
        problems += remove_damaged(path)
        if not path.exists():
            problems += encode_shard(path, folder, shard, vae, encoder, _part(progress, done, len(told)), known)
        done += len(shard)
    for stale in set(out.glob("clips-*.safetensors")) - {path for path, _ in shards}:
        stale.unlink()
    return problems


def encode_shard(
    path: Path,
    folder: Path,
    clips: Sequence[FolderClip],
    vae: VideoVAE,
    encoder: TextEncoder,
    progress: Progress,
    known: Features | None = None,
) -> list[str]:
    """Write a shard of clips of one size; returns notices of those that cannot be read, which are left out."""
    weight = vae.encoder.linear.weight
    latents: list[torch.Tensor] = []
    used: list[FolderClip] = []
    told: list[torch.Tensor] = []
    problems = []
    for number, clip in enumerate(clips):
        progress(number, len(clips))
        try:
            pixels = from_uint8(frames_of(folder, clip), weight.device)
        except ValueError as error:
            problems.append(f"skipped {clip.file}: {error}")
            continue
        told += [known.of(clip)] if known else []
        latents.append(vae.encode(pixels[None].to(weight.dtype))[0].cpu())
        used.append(clip)
    if used:
        size, texts = clips[0].size, [list(clip.captions) for clip in used]
        made_from = {"vae": fingerprint(vae), "clips": clips_mark(clips, known, captions=False)}
        features = text_features(encoder, [line for lines in texts for line in lines])
        described = {"size": str(size), "cyclic": size.cyclic, "fps": clips[0].fps, "made_from": made_from}
        write_shard(path, latents, texts, [clip.class_name for clip in used], features, described, told)
    return problems


def _part(progress: Progress, done: int, total: int) -> Progress:
    """The progress of a part as that of the whole."""
    return lambda number, _: progress(done + number, total)


def clips_mark(clips: Sequence[FolderClip], known: Features | None = None, *, captions: bool = True) -> str:
    """Eight letters that change with the clips' files, places and sizes, how they are read, captions and features."""
    parts = [
        part
        for clip in clips
        for part in (READER, clip.file, clip.stamp, clip.start, clip.fps, clip.size, clip.captions if captions else "")
    ]
    return mark_of([*parts, known.mark(clips)] if known else parts)
