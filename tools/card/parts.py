"""Files in parts that are small enough to be carried away.

`python3 tools/pack.py tools.card.parts join PART ... OUT` puts them together.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ...models.files import write_bytes

LARGEST = 15 * 2**20


def keep(path: Path, folder: Path | None) -> list[Path]:
    """Copy a file to a folder, in parts name.000, name.001, ... where it is large; returns them."""
    if folder is None:
        return []
    data = path.read_bytes()
    pieces = [data[start : start + LARGEST] for start in range(0, len(data), LARGEST)]
    names = [f"{path.name}.{number:03d}" for number in range(len(pieces))] if len(pieces) > 1 else [path.name]
    places = [folder / name for name in names]
    for place, piece in zip(places, pieces, strict=True):
        write_bytes(place, piece)
    return places


def join(parts: Sequence[Path], out: Path) -> None:
    """Put a file together again from its parts. ValueError when one is missing."""
    found = sorted(parts)
    for number, part in enumerate(found):
        if part.suffix != f".{number:03d}":
            raise ValueError(f"part {number:03d} of {out.name} is missing: found {', '.join(p.name for p in found)}")
    write_bytes(out, b"".join(part.read_bytes() for part in found))


def main() -> None:
    """Join."""
    if sys.argv[1:2] != ["join"] or len(sys.argv) < 4:
        raise SystemExit("usage: python3 tools/pack.py tools.card.parts join PART ... OUT")
    join([Path(text) for text in sys.argv[2:-1]], Path(sys.argv[-1]))


if __name__ == "__main__":
    main()
