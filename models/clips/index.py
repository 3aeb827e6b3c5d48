"""What the videos of a folder hold, remembered in a file, so that each is looked through only once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from .footage import Footage, Scene

READER = 3  # raise it when ../media shows files in another way: what was found by the one before is found anew
MOST = 400_000_000  # bytes


@dataclass
class Index:
    """files: by name the stamp of a file and what it holds, or why it cannot be used. held_out: stems (split.py)."""

    files: dict[str, tuple[str, Footage | str]] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path | None) -> Index:
        """What `write` wrote; empty when there is nothing, or nothing that can be used: it is only a memory."""
        if path is None or not path.is_file():
            return cls()
        try:
            held = read_json(path, dict, limit=MOST)
            files = held["files"] if held["reader"] == READER else {}
            found = {name: (str(stamp), _held(what)) for name, (stamp, what) in files.items()}
            return cls(found, tuple(map(str, held["held_out"])))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def write(self, path: Path | None) -> None:
        """Remember it, whole or not at all."""
        if path is not None:
            files = {
                name: [stamp, held if isinstance(held, str) else asdict(held)]
                for name, (stamp, held) in self.files.items()
            }
            write_json(path, {"reader": READER, "held_out": list(self.held_out), "files": files})


def _held(what: str | Mapping[str, Any]) -> Footage | str:
    """A footage whose numbers can be used. ValueError, TypeError or KeyError for any other."""
    if isinstance(what, str):
        return what
    numbers = [what["width"], what["height"], what["fps"], what["num_frames"]]
    scenes = tuple(Scene(float(scene["start"]), float(scene["end"])) for scene in what["scenes"])
    spans = [scene.end - scene.start for scene in scenes]
    if not all(math.isfinite(number) and 0 < number < 1e9 for number in (*numbers, *spans)):
        raise ValueError("sizes and times must lie above 0")
    return Footage(**{**what, "scenes": scenes})
