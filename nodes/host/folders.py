"""Where the host keeps files: checkpoints of ours, what nodes put out, and temporary files."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import folder_paths

from ...models.embedded import EMBEDDED, WEIGHTS
from ...models.remedies import cut

OURS = "spacetime"  # our folder in the host's output folder
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
LONGEST = 1000  # characters of a path within the output folder
MODEL_FOLDERS = ("checkpoints", "diffusion_models")
_seen: dict[str, tuple[tuple[int, int], bool]] = {}


def temp_file(suffix: str) -> Path:
    """A new path in the host's temp folder, which the host empties when it starts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"spacetime_{uuid.uuid4().hex[:12]}{suffix}"


def output_folder() -> Path:
    """The host's output folder."""
    return Path(folder_paths.get_output_directory()).resolve()


def checked_name(name: str, what: str) -> str:
    """A name for a folder or a file of ours. ValueError for one that could lead elsewhere; `what` is what it names."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f'"{cut(name, 60)}" is no name for {what}: use up to 64 letters, digits, _ and -, without spaces and dots'
        )
    return name


def new_output_file(prefix: str, suffix: str) -> Path:
    """A new path in the host's output folder, numbered as core's Save nodes do. ValueError when it lies outside."""
    root = output_folder()
    if not prefix.strip() or not _can_be_a_path(prefix) or not (root / prefix).resolve().is_relative_to(root):
        raise ValueError(f"filename_prefix {cut(prefix, 60)!r} leads out of ComfyUI's output folder: use folder/name")
    folder, name, counter, *_ = folder_paths.get_save_image_path(prefix, str(root))
    return Path(folder) / f"{name}_{counter:05}_{suffix}"


def _can_be_a_path(text: str) -> bool:
    """Whether the system can be asked for it: it has a length, and whole characters."""
    return len(text) <= LONGEST and "\0" not in text and text == text.encode(errors="ignore").decode()


def output_name(path: Path) -> str:
    """A file of the output folder as `output_file` takes it."""
    return path.resolve().relative_to(output_folder()).as_posix()


def output_file(name: str, kind: str, suffix: str) -> Path:
    """A file of the output folder by its name there. ValueError, with what there is, when it is gone or elsewhere."""
    root = output_folder()
    path = (root / name.strip()).resolve() if _can_be_a_path(name) else root
    if path.is_relative_to(root) and path.suffix == suffix and path.is_file():
        return path
    there = sorted(root.glob(f"{kind}s/*{suffix}"), key=lambda one: -one.stat().st_mtime)
    listed = ", ".join(output_name(one) for one in there[:5]) or "none"
    raise ValueError(
        f"there is no {kind} {cut(name, 60)!r} in ComfyUI's output folder: write its name as the node shows it that "
        f"saved it (newest in {kind}s: {listed})"
    )


def checkpoint_names() -> list[str]:
    """The embedded checkpoints by name, then every .safetensors of ours in the host's model folders."""
    names = [path.stem for path in sorted(WEIGHTS.glob("*.safetensors")) if _looks_like_ours(str(path))] or [
        EMBEDDED.stem
    ]
    for folder in MODEL_FOLDERS:
        for name in folder_paths.get_filename_list(folder):
            path = folder_paths.get_full_path(folder, name)
            if name.endswith(".safetensors") and path and _looks_like_ours(path) and name not in names:
                names.append(name)
    return names


def checkpoint_path(name: str) -> Path:
    """Where a checkpoint of `checkpoint_names` lies. ValueError when it is gone or lies outside those folders."""
    embedded = WEIGHTS / f"{name}.safetensors"
    if embedded.parent == WEIGHTS and embedded.is_file():
        return embedded
    for folder in MODEL_FOLDERS:
        found = folder_paths.get_full_path(folder, name)
        if found:
            return Path(found)
    if name == EMBEDDED.stem:
        raise ValueError(f"the embedded checkpoint {embedded} is missing: install the pack again, or train one")
    raise ValueError(
        f"there is no checkpoint {name!r}: put the .safetensors file into ComfyUI's models/checkpoints folder, "
        f"press R to refresh, and pick it again (here: {', '.join(checkpoint_names())})"
    )


def _looks_like_ours(path: str) -> bool:
    """Whether the header mentions our config, or the file is too broken to tell. Read once per file and change."""
    try:
        stat = Path(path).stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if path not in _seen or _seen[path][0] != stamp:
            header, whole = header_of(Path(path))
            _seen[path] = (stamp, b'"spacetime"' in header or not whole)
    except OSError:
        return False
    return _seen[path][1]


def header_of(path: Path) -> tuple[bytes, bool]:
    """The header of a safetensors file, at most its first 4 MB, and whether all of that is there.

    The header of a large foreign checkpoint is about 100 kB; a damaged length must not read gigabytes.
    """
    with path.open("rb") as file:
        size = min(int.from_bytes(file.read(8), "little"), 4_000_000)
        header = file.read(size)
    return header, len(header) == size
