"""Draw a contact sheet of the toy world: python -m <pack>.models.toyworld --out sheet.png"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .captions import detailed_caption, short_caption
from .renderer import render
from .scenes import sample_scene
from .world import CYCLIC_KINDS, KINDS

COLUMNS, TEXT, GAP = 8, 330, 4


def contact_sheet(
    kinds: list[str], *, seed: int, height: int, width: int, num_frames: int, cyclic: bool
) -> Image.Image:
    """Two clips of each kind, 8 frames each, with a short and a detailed caption beside."""
    rng = np.random.default_rng(seed)
    rows = [kind for kind in kinds for _ in range(2)]
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) + TEXT, len(rows) * (height + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, kind in enumerate(rows):
        scene = sample_scene(rng, kind=kind, num_frames=num_frames, cyclic=cyclic, aspect=width / height)
        clip = render(scene, num_frames=num_frames, height=height, width=width)
        last = num_frames - (0 if cyclic else 1)
        for column in range(COLUMNS):
            picture = clip.frames[min(round(column * last / (COLUMNS - 1)), num_frames - 1)]
            sheet.paste(Image.fromarray(picture), (column * (width + GAP), row * (height + GAP)))
        lines = [*textwrap.wrap(short_caption(scene, rng), 54), "", *textwrap.wrap(detailed_caption(scene, rng), 54)]
        corner = (COLUMNS * (width + GAP) + 6, row * (height + GAP))
        pen.multiline_text(corner, "\n".join(lines), fill="black", spacing=1)
    return sheet


def main() -> int:
    """Read the command line, draw, save."""
    parser = argparse.ArgumentParser(prog="toyworld", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--cyclic", action="store_true")
    parser.add_argument("--kind", action="append", help="only these kinds of motion")
    args = parser.parse_args()
    kinds = args.kind or list(CYCLIC_KINDS if args.cyclic else KINDS)
    start = time.perf_counter()
    sheet = contact_sheet(
        kinds, seed=args.seed, height=args.height, width=args.width, num_frames=args.frames, cyclic=args.cyclic
    )
    sheet.save(args.out)
    spent = time.perf_counter() - start
    sys.stdout.write(f"{args.out}: {2 * len(kinds)} clips in {spent:.1f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
