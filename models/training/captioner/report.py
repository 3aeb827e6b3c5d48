"""Held-out clips as strips of frames with what the captioner says of them: the picture that a run shows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ...files import replacing
from ...pixels import to_uint8
from ...vae.autoencoder import VideoVAE

SHOWN, COLUMNS, SIDE, LETTERS = 4, 8, 76, 96


@torch.no_grad()
def save_examples(path: Path, examples: Sequence[tuple[torch.Tensor, str]], vae: VideoVAE, *, cyclic: bool) -> None:
    """Decode the first of these latents (C, T, H, W) of one size and write each one's text below it."""
    weight = vae.decoder.linear.weight
    rows = [
        captioned(vae.decode(latents[None].to(weight), cyclic=cyclic)[0], text) for latents, text in examples[:SHOWN]
    ]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    with replacing(path) as partial:
        sheet.save(partial, format="PNG")


def captioned(video: torch.Tensor, text: str) -> Image.Image:
    """Evenly spaced frames of pixels (3, F, H, W) in a row, and the text below."""
    frames = to_uint8(video)
    height = max(1, round(SIDE * frames.shape[1] / frames.shape[2]))
    lines = textwrap.wrap(text, LETTERS) or ["(no caption)"]
    row = Image.new("RGB", (COLUMNS * (SIDE + 2), height + 6 + 13 * len(lines)), "white")
    chosen = np.linspace(0, len(frames) - 1, min(COLUMNS, len(frames))).round().astype(int)
    for column, number in enumerate(chosen):
        row.paste(Image.fromarray(frames[number]).resize((SIDE, height)), (column * (SIDE + 2), 0))
    ImageDraw.Draw(row).multiline_text((2, height + 2), "\n".join(lines), fill="black", spacing=2)
    return row
