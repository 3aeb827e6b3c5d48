"""Prompts over time and in regions with the embedded model: does the video change where and when a prompt says so?

Two prompts of the toy world hold one after the other, or side by side. Colour and motion are judged from pixels, as in
bench fidelity: `right` is the share of clips in which each half shows what its own prompt asks for and not what the
other one does, `plain` the same for clips of the first prompt alone, which cannot be right. No clip of training turns
round on its way. `difference` is the largest difference of latents to the plain run where all prompts are one.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.flow import Denoiser
from ...models.generate import clip_noise, placed_predictor, predictor
from ...models.geometry import OURS
from ...models.guidance import Guidance
from ...models.metrics.motions import TURNING, evidence, track
from ...models.metrics.segmentation import Blob, find_blobs
from ...models.pixels import to_uint8
from ...models.schedules import highest_sigma, sigma_of, sigmas
from ...models.solvers import Solver, noise_generator, sample
from ...models.tasks.prompts import Clock, covered, parse_keys, shares_over_time
from ...models.toyworld.world import COLOURS, SHAPES
from .sampling import Frames, add_sampling_options, load_models, sheet, sizes

FPS = 12.0
TURN = 0.5  # part of the video after which the second prompt holds
SETTLED = 4  # frames on either side of the turn that are not looked at
ROW: dict[str, Any] = {"name": "", "right": None, "plain": None, "difference": None, "n": 0}
Blobs = list[list[Blob]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=16, help="clips per row")
    parser.add_argument("--fade", type=float, default=0.0, help="seconds from one prompt to the next")
    parser.add_argument("--sheet", type=Path, help="save a picture of the clips")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per question."""
    bench = Bench(options)
    yield ROW | {"name": "one prompt at all times", "difference": bench.equality(), "n": 1}
    for name, (pair, places, judge) in QUESTIONS.items():
        yield ROW | {"name": name, **bench.ask(pair, places, judge)}
    if options.sheet:
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
        right, plain = [], []
        for index in range(self.options.limit):
            first, second, about = pair(np.random.default_rng([11, index]))
            shares = places(self, first, second)
            both = self.clip(placed_predictor(self.models, shares), index)
            alone = self.clip(predictor(self.models, [first], self.shape), index)
            right.append(judge(both, about))
            plain.append(judge(alone, about))
            if index < 4:
                self.clips.append(both)
                self.captions.append(f"{first}\nthen or beside it: {second}\n{'right' if right[-1] else 'wrong'}")
            print(f"\r{index + 1} of {self.options.limit}", end="\r", file=sys.stderr, flush=True)
        return {"right": float(np.mean(right)), "plain": float(np.mean(plain)), "n": len(right)}

    def equality(self) -> float:
        """The largest difference of latents to the plain run where two keys say the same in other words of time."""
        prompt = "a red ball rolls to the right"
        half = torch.full(self.shape, 0.5)
        one = self.latents(placed_predictor(self.models, {prompt: half, f"{prompt} ": 1 - half}), 0)
        return float((one - self.latents(predictor(self.models, [prompt], self.shape), 0)).abs().max())

    @torch.no_grad()
    def latents(self, positive: Denoiser, seed: int) -> Tensor:
        """The latents of one clip."""
        options = self.options
        denoise = Guidance(scale=options.cfg).denoiser(
            positive, predictor(self.models, [""], self.shape), sigma_of(options.shift)
        )
        noise = clip_noise(self.models, self.shape, options.seed + seed)[None]
        highest = highest_sigma(self.models.dit.config.prediction)
        levels = sigmas("linear", options.steps, shift=options.shift, sigma_max=highest)
        return sample(Solver(name=options.solver), denoise, noise, levels, generator=noise_generator(seed))

    @torch.no_grad()
    def clip(self, positive: Denoiser, seed: int) -> Frames:
        """The frames of one clip."""
        weight = self.models.vae.decoder.linear.weight
        return to_uint8(self.models.vae.decode(self.latents(positive, seed).to(weight))[0])


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
