"""Prompts over time and in regions with the embedded model: does the video change where and when a prompt says so?

Two prompts of the toy world hold one after the other, or side by side. Colour and motion are judged from pixels, as in
bench fidelity: `right` is the share of clips in which each half shows what its own prompt asks for and not what the
other one does, where the model is run for each prompt and its answers are mixed; `attention` the same where each patch
attends to its own prompt in one run; `plain` for clips of the first prompt alone, which cannot be right. No clip of
training changes its colour or turns round on its way. `difference` is the largest difference of latents to the plain
run where all prompts are one, by either way.

And a second pass at twice the size, in tiles that overlap. What it differs in from a second pass in one
piece is looked at across the borders of tiles: `seam` is the change across them over that across lines a latent beside
them, the median over borders and clips; `plain` the same for tiles that do not overlap.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.flow import Denoiser, add_noise
from ...models.generate import clip_noise, mixed_predictor, placed_predictor, predictor, tiled_predictor
from ...models.geometry import CHANNELS, OURS
from ...models.guidance import Guidance
from ...models.metrics.motions import TURNING, evidence, track
from ...models.metrics.seam import picture_seams
from ...models.metrics.segmentation import Blob, find_blobs
from ...models.pixels import to_uint8
from ...models.schedules import highest_sigma, sigma_of, sigmas
from ...models.solvers import Solver, noise_generator, sample
from ...models.tasks.canvas import Canvas
from ...models.tasks.prompts import Clock, covered, parse_keys, shares_over_time
from ...models.tasks.second_pass import enlarge, sigmas_from, tiling_of
from ...models.tasks.tiles import Part, Tiling
from ...models.toyworld.world import COLOURS, SHAPES
from .sampling import Frames, add_sampling_options, load_models, sheet, sizes

FPS = 12.0
TURN = 0.5  # part of the video after which the second prompt holds
SCALE, STRENGTH, OVERLAP = 2.0, 0.5, 0.25  # of the second pass
SETTLED = 4  # frames on either side of the turn that are not looked at
ROW: dict[str, Any] = {
    "name": "",
    "right": None,
    "attention": None,
    "plain": None,
    "difference": None,
    "seam": None,
    "n": 0,
}
Blobs = list[list[Blob]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=16, help="clips per row")
    parser.add_argument("--fade", type=float, default=0.0, help="seconds from one prompt to the next")
    parser.add_argument("--contrast", type=float, default=0.5, help="between the prompts, where answers are mixed")
    parser.add_argument("--only", help="the rows whose names begin so")
    parser.add_argument("--sheet", type=Path, help="save a picture of the clips")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per question."""
    bench = Bench(options)
    asked: dict[str, Callable[[], dict[str, Any]]] = {"one prompt at all times": bench.equality}
    asked |= {name: partial(bench.ask, *question) for name, question in QUESTIONS.items()}
    asked["second pass in tiles"] = bench.second_pass
    for name, answer in asked.items():
        if name.startswith(options.only or ""):
            yield ROW | {"name": name, **answer()}
    if options.sheet and bench.clips:
        sheet(bench.clips, bench.captions).save(options.sheet)


class Bench:
    """Models, and the clips that were made."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.models = options, load_models(options)
        width, height, frames = sizes(options.size)
        self.shape = OURS.latent_shape(frames, height, width)
        self.clock = Clock(self.shape[0], FPS, OURS.grid)
        self.clips: list[Frames] = []
        self.captions: list[str] = []

    def ask(self, pair: "Pair", places: "Places", judge: "Judge") -> dict[str, Any]:
        """Over pairs of prompts: what share of the clips is right, of those with both and of those with the first."""
        found: dict[str, list[bool]] = {"right": [], "attention": [], "plain": []}
        for index in range(self.options.limit):
            first, second, about = pair(np.random.default_rng([11, index]))
            shares = places(self, first, second)
            ways = (
                mixed_predictor(self.models, shares, contrast=self.options.contrast),
                placed_predictor(self.models, shares),
                predictor(self.models, [first], self.shape),
            )
            for judged, way in zip(found.values(), ways, strict=True):
                clip = self.clip(way, index)
                judged.append(judge(clip, about))
                if index < 4 and judged is found["right"]:
                    self.clips.append(clip)
                    word = "right" if judged[-1] else "wrong"
                    self.captions.append(f"{first}\nthen or beside it: {second}\n{word}")
            print(f"\r{index + 1} of {self.options.limit}", end="\r", file=sys.stderr, flush=True)
        return {name: float(np.mean(judged)) for name, judged in found.items()} | {"n": self.options.limit}

    def equality(self) -> dict[str, Any]:
        """The largest difference of latents to the plain run where two keys say the same in other words of time."""
        prompt = "a red ball rolls to the right"
        half = torch.full(self.shape, 0.5)
        shares = {prompt: half, f"{prompt} ": 1 - half}
        plain = self.latents(predictor(self.models, [prompt], self.shape), 0)
        mixed = mixed_predictor(self.models, shares, contrast=self.options.contrast)
        ways = (mixed, placed_predictor(self.models, shares))
        return {"difference": max(float((self.latents(way, 0) - plain).abs().max()) for way in ways), "n": 1}

    def second_pass(self) -> dict[str, Any]:
        """Seams of tiles in larger clips, and the same lines in clips that were made larger in one piece."""
        seams: dict[float, list[float]] = {OVERLAP: [], 0.0: []}
        for index in range(self.options.limit):
            prompt = two_colours(np.random.default_rng([11, index]))[0]
            first = Canvas.of(self.latents(predictor(self.models, [prompt], self.shape), index).cpu())
            large = enlarge(first, SCALE).latents
            whole = torch.from_numpy(self.finer(prompt, large, None, index)).float()
            for overlap, found in seams.items():
                tiling = tiling_of(first, 1.0, overlap)
                tiled = torch.from_numpy(self.finer(prompt, large, tiling, index)).float()
                columns, rows = (borders(tiling.parts(large.shape), axis) for axis in (2, 1))
                found.extend(picture_seams(tiled - whole, columns, rows))
        middle = {overlap: float(np.median(found)) for overlap, found in seams.items()}
        return {"seam": middle[OVERLAP], "plain": middle[0.0], "n": self.options.limit}

    def finer(self, prompt: str, large: Tensor, tiling: Tiling | None, seed: int) -> Frames:
        """The frames of a second pass over large latents."""
        positive, unguided = (self.over(text, large, tiling) for text in (prompt, ""))
        return self.decoded(self.sampled(positive, unguided, large, STRENGTH, seed))

    def over(self, prompt: str, large: Tensor, tiling: Tiling | None) -> Denoiser:
        """A denoiser of large latents, tile by tile or in one piece."""
        shape = tuple(large.shape[2:])
        if tiling is None:
            return predictor(self.models, [prompt], shape)
        return tiled_predictor(self.models, [prompt], shape, tiling)

    def latents(self, positive: Denoiser, seed: int) -> Tensor:
        """The latents of one clip."""
        unguided = predictor(self.models, [""], self.shape)
        return self.sampled(positive, unguided, torch.zeros(1, CHANNELS, *self.shape), 1.0, seed)

    @torch.no_grad()
    def sampled(self, positive: Denoiser, unguided: Denoiser, start: Tensor, strength: float, seed: int) -> Tensor:
        """Latents (1, C, T, H, W) of a run from a noise level on, over `start`."""
        options = self.options
        denoise = Guidance(scale=options.cfg).denoiser(positive, unguided, sigma_of(options.shift))
        noise = clip_noise(self.models, start.shape[2:], options.seed + seed)[None]
        highest = highest_sigma(self.models.dit.config.prediction)
        whole = sigmas("linear", options.steps, shift=options.shift, sigma_max=highest)
        levels = whole if strength == 1 else sigmas_from(whole, strength)
        x = add_noise(start.to(noise), noise, float(levels[0])) if strength < 1 else noise
        return sample(Solver(name=options.solver), denoise, x, levels, generator=noise_generator(seed))

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Frames:
        """The frames of one clip."""
        return to_uint8(self.models.vae.decode(latents.to(self.models.vae.decoder.linear.weight))[0])

    def clip(self, positive: Denoiser, seed: int) -> Frames:
        """The frames of one clip from noise."""
        return self.decoded(self.latents(positive, seed))


def borders(parts: Sequence[Part], axis: int) -> list[int]:
    """The pixels at which tiles begin or end inside of the picture."""
    starts = {part[axis][0] for part in parts}
    ends = {sum(part[axis]) for part in parts}
    return [OURS.space * place for place in sorted((starts - {0}) | (ends - {max(ends)}))]


# -- pairs of prompts, and what they are about --


def two_colours(rng: np.random.Generator) -> tuple[str, str, Any]:
    """The same object and motion in two colours."""
    one, other = rng.choice(list(COLOURS), 2, replace=False)
    shape = rng.choice(SHAPES)
    return f"a {one} {shape} is spinning", f"a {other} {shape} is spinning", (str(one), str(other))


def two_motions(rng: np.random.Generator) -> tuple[str, str, Any]:
    """The same object, which spins and then stands still."""
    name = f"a {rng.choice(list(COLOURS))} {rng.choice(['cube', 'cone', 'cylinder'])}"
    return f"{name} is spinning", f"{name} stands still", name.split()[1]


def two_ways(rng: np.random.Generator) -> tuple[str, str, Any]:
    """The same object that goes one way and then the other."""
    colour, (way, back) = str(rng.choice(list(COLOURS))), rng.permutation(["left", "right"])
    text = f"a {colour} ball rolls to the "
    return text + way, text + back, (colour, 1.0 if way == "right" else -1.0)


Pair = Callable[[np.random.Generator], tuple[str, str, Any]]


# -- who answers to what --


def one_after_the_other(bench: Bench, first: str, second: str) -> Mapping[str, Tensor]:
    """The second prompt from the middle of the video on."""
    turn = TURN * bench.clock.seconds
    segments = covered(parse_keys(f"0: {first}\n{turn:.4f}: {second}", "a ball"), bench.clock, gaps=False)
    shares = shares_over_time(segments, bench.clock, bench.options.fade)
    return {text: share[:, None, None].expand(bench.shape) for text, share in shares.items()}


def side_by_side(bench: Bench, first: str, second: str) -> Mapping[str, Tensor]:
    """The first prompt on the left half of the picture."""
    left = torch.zeros(bench.shape)
    left[..., : bench.shape[2] // 2] = 1
    return {first: left, second: 1 - left}


Places = Callable[[Bench, str, str], Mapping[str, Tensor]]


# -- judges --


def halves(frames: Frames) -> tuple[Frames, Frames]:
    """Frames before and after the turn."""
    turn = round(TURN * len(frames))
    return frames[: turn - SETTLED], frames[turn + SETTLED :]


def area(frames: Sequence[Sequence[Blob]], colour: str) -> float:
    """Pixels of a colour."""
    return sum(blob.area for frame in frames for blob in frame if blob.name == colour)


def colour_changes(frames: Frames, colours: tuple[str, str]) -> bool:
    """Most of what is coloured has the first colour before the turn, and the second one after it."""
    before, after = (find_blobs(part) for part in halves(frames))
    one, other = colours
    return area(before, one) > 2 * area(before, other) and area(after, other) > 2 * area(after, one)


def stops(frames: Frames, colour: str) -> bool:
    """The object's surface moves before the turn, and not after it."""
    turning = []
    for part in halves(frames):
        blobs = find_blobs(part)
        followed = track(blobs, colour, part.shape[1:3])
        if not followed.seen.any():
            return False
        turning.append(evidence(part, blobs, [followed]).surface_change)
    return turning[0] > TURNING > turning[1]


def way_changes(frames: Frames, about: tuple[str, float]) -> bool:
    """The object goes the one way before the turn, and the other way after it."""
    colour, way = about
    before, after = (travelled(find_blobs(part), colour) for part in halves(frames))
    return before * way > 1 and after * way < -1


def travelled(blobs: Blobs, colour: str) -> float:
    """How far the largest object of a colour goes to the right, in pixels."""
    seen = [max((b for b in frame if b.name == colour), key=lambda b: b.area, default=None) for frame in blobs]
    places = [blob.x for blob in seen if blob is not None]
    return places[-1] - places[0] if len(places) > 1 else 0.0


def colours_beside(frames: Frames, colours: tuple[str, str]) -> bool:
    """The first colour lies to the left of the second one."""
    blobs = find_blobs(frames)
    middles = []
    for colour in colours:
        found = [(blob.x, blob.area) for frame in blobs for blob in frame if blob.name == colour]
        if not found:
            return False
        middles.append(float(np.average([x for x, _ in found], weights=[a for _, a in found])))
    return middles[0] < middles[1]


Judge = Callable[[Frames, Any], bool]
QUESTIONS: dict[str, tuple[Pair, Places, Judge]] = {
    "the colour changes at its time": (two_colours, one_after_the_other, colour_changes),
    "the motion ends at its time": (two_motions, one_after_the_other, stops),
    "a roll turns round at its time": (two_ways, one_after_the_other, way_changes),
    "each region has its colour": (two_colours, side_by_side, colours_beside),
}
