"""What the benchmarks of the model share: options, models, a picture of all clips."""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...models.embedded import EMBEDDED
from ...models.generate import Models, generate
from ...models.precision import cpu_multiplies_bf16

Frames = NDArray[np.uint8]


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How to generate."""
    parser.add_argument("--checkpoint", type=Path, default=EMBEDDED)
    parser.add_argument("--size", default="96x96x33", help="width x height x frames")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--cfg", type=float, default=2.0)
    parser.add_argument("--shift", type=float, default=2.0)
    parser.add_argument("--solver", default="euler_sde")
    parser.add_argument(
        "--few-steps", action="store_true", help="the checkpoint's form for few steps, with the settings of that form"
    )
    parser.add_argument("--batch", type=int, default=8, help="clips at once")
    parser.add_argument("--seed", type=int, default=0)


def load_models(options: argparse.Namespace) -> Models:
    """In bf16 on a GPU or a CPU that multiplies it in hardware, otherwise in fp32.

    For few steps the sampling options become those that the file recommends for that form.
    """
    where = {"device": "cuda"} if torch.cuda.is_available() else {}
    dtype = torch.bfloat16 if where or cpu_multiplies_bf16() else torch.float32
    models = Models.load(options.checkpoint, dtype=dtype, few_steps=options.few_steps, **where)
    if options.few_steps:
        vars(options).update(asdict(models.best))
    return models


def sampled(
    models: Models, prompts: Sequence[str], options: argparse.Namespace, first: int, *, frames: int, **more: Any
) -> list[Frames]:
    """One batch of clips with the options' settings, from the noise of seed + first; more: for `generate`."""
    width, height, _ = sizes(options.size)
    return generate(
        models,
        prompts[first : first + options.batch],
        num_frames=frames,
        height=height,
        width=width,
        steps=options.steps,
        cfg=options.cfg,
        shift=options.shift,
        solver=options.solver,
        seed=options.seed + first,
        **more,
    )


def sizes(text: str) -> tuple[int, int, int]:
    """Width, height and frames from 96x96x33."""
    width, height, frames = (int(part) for part in text.split("x"))
    return width, height, frames


def sheet(clips: Sequence[Frames], captions: Sequence[str], columns: int = 7) -> Image.Image:
    """Clips as rows of evenly spaced frames, each with its caption beside it."""
    _, height, width, _ = clips[0].shape
    text = 300
    page = Image.new("RGB", (text + columns * (width + 2), len(clips) * (height + 2)), "white")
    draw = ImageDraw.Draw(page)
    for row, (clip, caption) in enumerate(zip(clips, captions, strict=True)):
        top = row * (height + 2)
        lines = [part for line in caption.split("\n") for part in wrapped(line, 46)]
        draw.multiline_text((4, top + 4), "\n".join(lines), fill="black", font_size=11)
        for column, index in enumerate(np.linspace(0, len(clip) - 1, columns).round().astype(int)):
            page.paste(Image.fromarray(clip[index]), (text + column * (width + 2), top))
    return page


def wrapped(line: str, length: int) -> list[str]:
    """A line in pieces of at most `length` letters."""
    return textwrap.wrap(line, length) or [""]
