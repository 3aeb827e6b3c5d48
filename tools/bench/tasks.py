"""Editing tasks with the embedded model on held-out clips of the toy world: seams, what was kept, drift over 60 s.

The first rows are of true clips through the VAE and back: what it alone does where one latent follows another.

`seam` is the change across a join, or from a loop's last frame to its first, over the median change: the median over
the clips, and the worst. `elsewhere` is the same at the other places where one generated latent follows another, so a
join that is no worse than those has the same number. `deflickered` and `its worst` are the seam and the worst of the
same latents decoded with deflicker. `true seam` is that of the true clips (of a blend: faded into each other).
`kept` is the largest difference of known latents, in deviations; `known psnr` the known frames (above: all) against
the true ones; `drift` in % of full scale (colour) or of the first second (contrast, sharpness).
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.flow import Denoiser, add_noise
from ...models.generate import clip_noise, predictor
from ...models.guidance import Guidance, hidden_history
from ...models.metrics.reference import psnr
from ...models.metrics.seam import changes, measure_joins, measure_loop, seam_ratio
from ...models.metrics.video import measure_video
from ...models.pixels import from_uint8
from ...models.schedules import highest_sigma, sigma_of, sigmas
from ...models.solvers import Solver, noise_generator, sample
from ...models.tasks import along_time
from ...models.tasks.canvas import Canvas
from ...models.tasks.far import Windows, extend_far
from ...models.tasks.levels import open_places, seen_change
from ...models.toyworld import sample_scene, short_caption
from ...models.toyworld.renderer import render
from ...models.vae.autoencoder import TIME
from .decoding import deflickered, images, true_frames
from .sampling import Frames, add_sampling_options, load_models, sheet, sizes

FPS = 12.0
KNOWN = 17  # frames
ROW = dict.fromkeys(
    ("seam", "worst", "elsewhere", "deflickered", "its worst", "true seam", "kept", "known psnr", "drift", "n")
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--limit", type=int, default=12, help="clips per task")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the long extension; 0: none")
    parser.add_argument("--anchor", type=float, default=0.3, help="of the long extension")
    parser.add_argument("--strength", type=float, default=0.2, help="of the blend")
    parser.add_argument("--history", type=float, default=0.0, help="scale of history guidance")
    parser.add_argument("--only", help="the rows whose names begin so")
    parser.add_argument("--sheet", type=Path, help="save a picture of the clips")
    add_sampling_options(parser)


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per task."""
    bench = Bench(options)
    if not options.only:
        for name, deflicker in (("true clips through the VAE", False), ("the same, deflickered", True)):
            yield {"name": name, **bench.through_the_vae(deflicker=deflicker)}
    for name, task in TASKS.items():
        if not name.startswith(options.only or ""):
            continue
        print(f"\r{name}", end="\r", file=sys.stderr, flush=True)
        yield {"name": name, **bench.run(task)}
    if options.seconds:
        for name, drift in bench.far().items():
            yield {"name": f"{options.seconds:g} s: {name}", **ROW, "drift": drift, "n": 1}
    if options.sheet:
        sheet(bench.clips, bench.captions, columns=10).save(options.sheet)


class Bench:
    """Models, true clips with their captions and latents, and the clips that were made."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.models = load_models(options)
        width, height, frames = sizes(options.size)
        self.truths: list[Frames] = []
        self.prompts: list[str] = []
        for seed in range(2 * options.limit):
            rng = np.random.default_rng([7, seed])
            scene = sample_scene(rng, held_out=True, num_frames=frames, fps=FPS, aspect=width / height)
            self.prompts.append(short_caption(scene, rng))
            self.truths.append(render(scene, num_frames=frames, height=height, width=width, fps=FPS).frames)
        self.latents = [self.encode(clip) for clip in self.truths]
        self.clips: list[Frames] = []
        self.captions: list[str] = []

    @torch.no_grad()
    def encode(self, clip: Frames) -> Tensor:
        """Latents (1, C, T, H, W), float32."""
        return self.models.vae.encode(from_uint8(clip)[None].to(self.models.vae.encoder.linear.weight)).float().cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor, *, cyclic: bool = False) -> Tensor:
        """Frames (F, H, W, 3) in 0..1."""
        weight = self.models.vae.decoder.linear.weight
        return images(self.models.vae.decode(latents.to(weight), cyclic=cyclic))

    @torch.no_grad()
    def generate(self, canvas: Canvas, prompt: str, seed: int) -> Tensor:
        """All latents of a canvas."""
        options, without = self.options, None
        positive, negative = (self.denoiser(canvas, text) for text in (prompt, ""))
        if options.history and bool((canvas.change == 0).any()):
            hiding = clip_noise(self.models, canvas.latents.shape[2:], options.seed + seed + 1)[None]
            without = self.denoiser(canvas, prompt, hiding)
        denoise = Guidance(scale=options.cfg).denoiser(
            positive, negative, sigma_of(options.shift), without=without, history=options.history
        )
        noise = clip_noise(self.models, canvas.latents.shape[2:], seed)[None]
        highest = highest_sigma(self.models.dit.config.prediction)
        levels = sigmas("linear", options.steps, shift=options.shift, sigma_max=highest)
        start = add_noise(canvas.latents.to(noise), noise, float(levels[0]))
        return sample(Solver(name=options.solver), denoise, start, levels, generator=noise_generator(seed)).cpu()

    def denoiser(self, canvas: Canvas, prompt: str, hiding: Tensor | None = None) -> Denoiser:
        """The model with a noise level per latent frame (clamp, where levels lie between 0 and 1).

        hiding: noise to show instead of what is known.
        """
        plain = predictor(self.models, [prompt], tuple(canvas.latents.shape[2:]), cyclic=canvas.cyclic)

        def predict(x: Tensor, sigma: Tensor) -> Tensor:
            known, change = canvas.latents.to(x), canvas.change.to(x)
            seen = seen_change(change, sigma, "clamp")
            state = torch.lerp(known, x, seen)
            if hiding is not None:
                state, seen = hidden_history(state, seen, sigma, hiding)
            denoised = plain(state, seen.mean(dim=(1, 3, 4)) * sigma[:, None])
            return torch.lerp(known, denoised, open_places(change, sigma, "clamp"))

        return predict

    def through_the_vae(self, *, deflicker: bool) -> dict[str, Any]:
        """Nothing is generated."""
        none = torch.zeros(self.latents[0].shape[2], dtype=torch.bool)
        clips = [self.decode(clip) for clip in self.latents]
        clips = [deflickered(self.models.vae, clip) for clip in clips] if deflicker else clips
        ratios = [between_latents(clip, none, cyclic=False) for clip in clips]
        like = [float(psnr(*pair).mean()) for pair in zip(clips, map(true_frames, self.truths), strict=True)]
        elsewhere, known = (round(statistics.median(values), 4) for values in (ratios, like))
        return ROW | {"elsewhere": elsewhere, "known psnr": known, "n": len(ratios)}

    def run(self, task: "Task") -> dict[str, Any]:
        """Medians over clips."""
        made = [task(self, index) for index in range(self.options.limit)]

        def middle(key: str, choose: Callable[[Sequence[float]], float] = statistics.median) -> float | None:
            values = [row[key] for row in made if key in row]
            return round(choose(values), 4) if values else None

        return ROW | {
            "seam": middle("seam"),
            "worst": middle("seam", max),
            "elsewhere": middle("elsewhere"),
            "deflickered": middle("deflickered"),
            "its worst": middle("deflickered", max),
            "true seam": middle("true seam"),
            "kept": middle("kept", max),
            "known psnr": middle("known psnr"),
            "n": len(made),
        }

    def judge(
        self, name: str, index: int, canvas: Canvas, joins: Sequence[int] = (), true_joins: Sequence[int] = ()
    ) -> dict[str, float]:
        """Generate, decode, measure and remember one clip."""
        latents = self.generate(canvas, self.prompts[index], self.options.seed + index)
        frames = self.decode(latents, cyclic=canvas.cyclic)
        steady = deflickered(self.models.vae, frames, cyclic=canvas.cyclic)
        if index < 2:
            self.clips.append((steady * 255).round().byte().numpy())
            self.captions.append(f"{name}\n{self.prompts[index]}")
        seams = [measure_loop(video) if canvas.cyclic else measure_joins(video, joins) for video in (frames, steady)]
        row = dict(zip(("seam", "deflickered"), (report.value("seam") for report in seams), strict=True))
        known = canvas.change.amax(dim=(0, 1, 3, 4)) == 0
        if not bool(known.all()):  # as in a blend of strength 0
            row["elsewhere"] = between_latents(frames, known, cyclic=canvas.cyclic)
        if bool(known.any()):
            row["kept"] = float((latents - canvas.latents)[:, :, known].abs().max())
        if true_joins:
            row["true seam"] = measure_joins(true_frames(self.truths[index]), true_joins).value("seam")
        return row

    def far(self) -> dict[str, float]:
        """One clip, window by window, to a minute: drift of the last second against the first, in %."""
        options, source = self.options, self.latents[0]
        more = round(options.seconds * FPS / 4) - source.shape[2] + 1

        def window(canvas: Canvas, index: int) -> Tensor:
            print(f"\rwindow {index + 1}", end="\r", file=sys.stderr, flush=True)
            return self.generate(canvas, self.prompts[0], options.seed + index)

        made = extend_far(source, more, Windows(window=9, context=4, anchor=options.anchor), window)
        weight = self.models.vae.decoder.linear.weight
        with torch.no_grad():
            pieces = self.models.vae.decode_stream(made.latents.to(weight).split(8, dim=2))
            kept = [frame for piece in pieces for frame in images(piece)]
        self.clips.append((torch.stack(kept) * 255).round().byte().numpy())
        self.captions.append(f"extended to {options.seconds:g} s\n{self.prompts[0]}")
        report = measure_video(kept, FPS, with_motion=False)
        names = ("colour drift", "contrast drift", "sharpness drift")
        return {name: round(report.value(name), 3) for name in names}


def between_latents(frames: Tensor, known: Tensor, *, cyclic: bool) -> float:
    """Mean change from one generated latent's frames to the next one's over the median change of the clip."""
    every = list(changes(frames))
    first = [TIME * i if cyclic else TIME * i - TIME + 1 for i in range(len(known))]  # of each latent's frames
    inside = [f for i, f in enumerate(first) if i and not known[i] and not known[i - 1]]
    return seam_ratio(statistics.mean(every[f - 1] for f in inside), every)


Task = Callable[[Bench, int], dict[str, float]]


def known_frames(index: int, bench: Bench) -> Tensor:
    """Latents of the first frames of a true clip."""
    return bench.latents[index][:, :, : 1 + (KNOWN - 1) // 4]


def animate(bench: Bench, index: int) -> dict[str, float]:
    """From the first frame."""
    canvas = along_time.animate([bench.latents[index][:, :, :1]], [0], 9)
    return bench.judge("animate", index, canvas, [1], [1])


def forward(bench: Bench, index: int) -> dict[str, float]:
    """17 frames are known, 16 come after."""
    canvas = along_time.extend(known_frames(index, bench), after=4)
    row = bench.judge("extend forward", index, canvas, [KNOWN], [KNOWN])
    again = bench.decode(canvas.latents[:, :, :5])
    return {**row, "known psnr": float(psnr(again, true_frames(bench.truths[index][:KNOWN])).mean())}


def backward(bench: Bench, index: int) -> dict[str, float]:
    """The last 20 frames are known, those before are not."""
    canvas = along_time.extend(bench.latents[index][:, :, 3:], before=4)
    return bench.judge("extend backward", index, canvas, [13], [13])


def retake(bench: Bench, index: int) -> dict[str, float]:
    """12 frames in the middle are made anew, those before and after are known."""
    canvas = along_time.retake(bench.latents[index], 3, 6)
    return bench.judge("retake", index, canvas, [9, 21], [9, 21])


def loop_text(bench: Bench, index: int) -> dict[str, float]:
    """A loop of 32 frames from text."""
    return bench.judge("loop from text", index, along_time.loop_new(torch.zeros_like(bench.latents[index][:, :, :8])))


def loop_clip(bench: Bench, index: int) -> dict[str, float]:
    """16 frames closed into a loop by 16 new ones."""
    return bench.judge("clip closed into a loop", index, along_time.loop_clip(known_frames(index, bench), 4))


def gap(bench: Bench, index: int) -> dict[str, float]:
    """The beginning and the end of one true clip, 12 frames between them unknown."""
    clip = bench.latents[index]
    canvas = along_time.connect_gap(clip[:, :, :3], clip[:, :, 5:], 3)
    return bench.judge("connect by a gap", index, canvas, [9, 21], [9, 21])


def blend(bench: Bench, index: int) -> dict[str, float]:
    """Two unlike clips, whose frames fade into each other over 4 latents before the model works on them."""
    other, joins = bench.options.limit + index, [5, 21]
    frames, following = (torch.from_numpy(bench.truths[clip]).float() for clip in (index, other))
    faded = along_time.cross_fade(frames[:21], following[1:], 16)
    latents = bench.encode(faded[:29].round().byte().numpy())
    first, second = bench.latents[index][:, :, :6], bench.latents[other][:, :, :7]
    canvas = along_time.connect_blend(first, second, 4, bench.options.strength, latents[:, :, 2:6])
    row = bench.judge("connect by a blend", index, canvas, joins)
    return {
        **row,
        "true seam": measure_joins(faded[: 1 + TIME * (canvas.latents.shape[2] - 1)] / 255, joins).value("seam"),
    }


TASKS: dict[str, Task] = {
    "animate": animate,
    "extend forward": forward,
    "extend backward": backward,
    "retake": retake,
    "loop from text": loop_text,
    "clip closed into a loop": loop_clip,
    "connect by a gap": gap,
    "connect by a blend": blend,
}
