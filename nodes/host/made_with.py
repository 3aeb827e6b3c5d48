"""What a workflow was made with: the pack's version and the weights that it names, each with size and checksum.

The record stands in the workflow as extra.spacetime = {"version": "0.2.0", "weights": [{"name": ..., "folder": ...,
"size": bytes, "sha256": hex or null, "from": address or null}, ...]}. A run writes it into what core's Save nodes put
into pictures and videos; `web/js/share` compares it with what is here when a workflow is opened.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import folder_paths

from ...models.embedded import WEIGHTS
from ...models.files import parsed_json, read_text
from .messages import serve_json

KEY = "spacetime"
ROUTE = "/spacetime/made_with"
ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
AT_ONCE = 200_000_000  # bytes that are summed while one waits (a tenth of a second); larger files are summed meanwhile
MOST = 200  # names in a question
PIECE = 1 << 20
ROOT = Path(__file__).resolve().parents[2]

Stamp = tuple[str, int, int]
_sums: dict[Stamp, str] = {}
_being_summed: set[Stamp] = set()


def version() -> str:
    """The pack's version: of the checkout's pyproject.toml, or of the installed wheel."""
    project = ROOT / "pyproject.toml"
    found = re.search(r'^version = "([^"]+)"', read_text(project), re.MULTILINE) if project.is_file() else None
    if found:
        return found[1]
    try:
        return metadata.version(KEY)
    except metadata.PackageNotFoundError:
        return "unknown"


def found(name: str) -> tuple[str, Path] | None:
    """The folder of the host's models in which a file of this name lies, and its path; None where it is in none."""
    if not name or "\0" in name or ".." in Path(name).parts:
        return None
    embedded = WEIGHTS / f"{name}.safetensors"
    if embedded.parent == WEIGHTS and embedded.is_file():
        return KEY, embedded
    for folder in list(folder_paths.folder_names_and_paths):
        if folder in ("custom_nodes", "configs"):
            continue
        path = folder_paths.get_full_path(folder, name)
        if path and Path(path).is_file():
            return folder, Path(path)
    return None


def checksum(path: Path) -> str | None:
    """The file's sha256; None for a large file whose sum is not known yet: it is made in the background."""
    stat = path.stat()
    stamp = (str(path), stat.st_mtime_ns, stat.st_size)
    if stamp not in _sums and stat.st_size <= AT_ONCE:
        _sums[stamp] = _sum(path)
    elif stamp not in _sums and stamp not in _being_summed:
        _being_summed.add(stamp)
        threading.Thread(target=_sum_later, args=(path, stamp), daemon=True, name="spacetime checksum").start()
    return _sums.get(stamp)


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _sum_later(path: Path, stamp: Stamp) -> None:
    try:
        _sums[stamp] = _sum(path)
    except OSError:
        pass  # it has gone meanwhile: whoever asks again hears so
    finally:
        _being_summed.discard(stamp)


def made_with(names: Iterable[str], addresses: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The record for these names of weights; `addresses` says where some come from. What is not here is left out."""
    weights = []
    for name in dict.fromkeys(names):
        place = found(name)
        if place is not None:
            folder, path = place
            entry = {"name": name, "folder": folder, "size": path.stat().st_size, "sha256": checksum(path)}
            source = "comes with the pack" if folder == KEY else (addresses or {}).get(name)
            weights.append({**entry, "from": source})
    return {"version": version(), "weights": weights}


def weights_in(prompt: Mapping[str, Any]) -> Iterator[str]:
    """The names of weights among the settings of a prompt's nodes."""
    for node in prompt.values():
        for name, value in node.get("inputs", {}).items() if isinstance(node, Mapping) else ():
            ours = name == "checkpoint" and str(node.get("class_type", "")).startswith("Spacetime")
            if isinstance(value, str) and (ours or value.lower().endswith(ENDINGS)):
                yield value


def addresses_in(workflow: Mapping[str, Any]) -> dict[str, str]:
    """Where the weights of a workflow come from, as its nodes and those of its subgraphs say."""
    graphs = [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]
    models = [
        model
        for graph in graphs
        for node in graph.get("nodes", [])
        for model in (node.get("properties") or {}).get("models", [])
    ]
    return {model["name"]: model["url"] for model in models if model.get("name") and model.get("url")}


def recorded(queued: dict[str, Any]) -> dict[str, Any]:
    """What is queued, with the record in its workflow, if that came along and holds a node of ours."""
    prompt = queued.get("prompt")
    info = (queued.get("extra_data") or {}).get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, dict) else None
    if not isinstance(workflow, dict) or not isinstance(prompt, dict):
        return queued
    if any(str(node.get("class_type", "")).startswith("Spacetime") for node in prompt.values()):
        record = made_with(weights_in(prompt), addresses_in(workflow))
        workflow["extra"] = {**(workflow.get("extra") or {}), KEY: record}
    return queued


def answer(query: Mapping[str, str]) -> dict[str, Any]:
    """The record for `names`, a list of names as JSON. ValueError for anything else."""
    names = parsed_json(query.get("names", "[]").encode(), "names")
    if not isinstance(names, list) or len(names) > MOST or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names must be a list of up to {MOST} names of files")
    return made_with(names)


def begin() -> None:
    """Let the server write the record into what is queued, and answer the editor. Nothing happens without a server."""
    instance = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if instance is not None:
        instance.add_on_prompt_handler(recorded)
    serve_json(ROUTE, answer)
