"""Train on the card, one part after the other: `python3 tools/pack.py tools.card.train PART --work DIR`.

Parts are vae, pair, dit, distilled and captioner. The VAE trains on the first clips that are rendered, then the DiT on
all that are encoded, while more come. What is ready goes to `--keep` in parts of at most 15 MB.
"""

import argparse
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.checkpoints import joined, load_checkpoint, save_checkpoint
from ...models.clips.cache import Example, LatentCache
from ...models.clips.clips import HELD_OUT
from ...models.clips.shards import read_shard
from ...models.clips.toy import cache_toy_world, toy_pixels
from ...models.files import parsed_json, read_json, read_text, write_json, write_text
from ...models.geometry import ClipSize
from ...models.pixels import stored
from ...models.recommended import CARD
from ...models.text.encoder import load_text_encoder
from ...models.training.captioner import train as captioner
from ...models.training.distill import train as distill
from ...models.training.distill.settings import Distillation
from ...models.training.dit import train as dit
from ...models.training.dit.settings import DiTTraining
from ...models.training.vae import train as vae
from .parts import keep
from .render import MIX, TINY, read_file

ALIGNMENT = 0.5  # weight that is tried
LOOK = 15  # seconds between looks for new clips


class GrowingCache(LatentCache):
    """The cached clips of a folder to which others add; what stands for them in a run is the folder, not its clips."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.taken, self.lock = set(self.names), threading.Lock()
        self.names, self.clips_mark, self.captions_mark = ["growing"], "growing", "growing"
        threading.Thread(target=self.grow, daemon=True).start()

    def draw(self, size: str, count: int, rng: torch.Generator, balance: float = 0.0) -> list[Example]:
        """Random clips of those that are there by now."""
        with self.lock:
            return super().draw(size, count, rng, balance)

    def grow(self) -> None:
        """Take in what comes, as long as the process lives."""
        while True:
            for path in sorted(self.folder.glob("*.safetensors")):
                if path.name not in self.taken:
                    shard = read_shard(path)
                    with self.lock:
                        self._add(*shard)
                    self.taken.add(path.name)
            print(f"{sum(map(len, self.buckets.values()))} clips", flush=True)
            time.sleep(LOOK)


def first_clips(work: Path, count: int, sizes: Sequence[str]) -> list[Tensor]:
    """The first `count` rendered clips of some sizes, as soon as they are there."""
    clips: list[Tensor] = []
    seen: set[str] = set()
    while len(clips) < count:
        for path in sorted((work / "rendered").glob("*.safetensors")):
            if path.stem not in seen and path.stem.rpartition("-")[0] in sizes and len(clips) < count:
                seen.add(path.stem)
                clips += [stored(frames) for frames in read_file(path).frames]
        time.sleep(0.2)
    return clips[:count]


def train_vae(options: argparse.Namespace) -> None:
    """Encoder and decoder, then the decoder alone on latents with errors, so that it joins what the DiT makes."""
    sizes = ["32x32x9"] if options.tiny else ["128x128x33", "96x96x33"]
    clips = first_clips(options.work, 20 if options.tiny else 2000, sizes)
    judged = toy_pixels(HELD_OUT, 4 if options.tiny else 8, ClipSize.parse(sizes[-1]))
    small = {"preset": "test", "crop": 32, "frames": (9,), "steps": 30} if options.tiny else {}
    shared = {
        "preset": "mini",
        "batch": 32,
        "crop": 64,
        "frames": (17, 9),
        "gradient_scales": 3,
        "steps": 40_000,
        "images": 0.12,
        "save_every": 100_000,
    } | small
    both = vae.VAETraining(**shared, minutes=0.6 * options.minutes, learning_rate=1.2e-3, steadiness=20.0)
    vae.train(both, clips, judged, options.work / "vae", None, "rendered clips", options.device)
    begun = load_checkpoint(options.work / "vae" / "vae.safetensors")
    alone = vae.VAETraining(
        **shared,
        minutes=0.4 * options.minutes,
        learning_rate=6e-4,
        steadiness=40.0,
        freeze_encoder=True,
        latent_noise=0.3,
    )
    vae.train(alone, clips, judged, options.work / "decoder", begun, "rendered clips", options.device)
    made = load_checkpoint(options.work / "decoder" / "vae.safetensors")
    save_checkpoint(options.work / "vae.safetensors", made)
    keep(options.work / "vae.safetensors", options.keep)
    for run in ("vae", "decoder"):
        keep_log(options.work / run, options.keep, run)


def keep_log(run: Path, folder: Path | None, name: str) -> None:
    """A run's log, to be carried away."""
    if folder:
        write_text(folder / f"{name}.jsonl", read_text(run / "log.jsonl"))


class Lessons:
    """What a DiT is trained on: the clips that are there by now, and some to judge it by."""

    def __init__(self, options: argparse.Namespace) -> None:
        mix, folder = TINY if options.tiny else MIX, options.work / "clips"
        while {path.name.split("-")[1] for path in folder.glob("*.safetensors")} < set(mix):
            time.sleep(0.5)
        self.vae = load_checkpoint(options.work / "vae.safetensors").vae(torch.bfloat16).to(options.device)
        encoder, held_out = load_text_encoder(options.device), options.work / "held-out"
        size = ClipSize.parse("32x32x9" if options.tiny else "96x96x33")
        cache_toy_world(held_out, self.vae, encoder, size, 8 if options.tiny else 64, first=HELD_OUT)
        (options.work / "held-out.done").touch()
        self.clips, self.judged = GrowingCache(folder), LatentCache(held_out)
        self.empty = encoder([""])[0][0].cpu().bfloat16()


def settings_of(options: argparse.Namespace, **changes: Any) -> DiTTraining:
    """The settings of the DiT."""
    mix = TINY if options.tiny else MIX
    small = {"preset": "test", "tokens": 256, "steps": 20, "dtype": "float32"} if options.tiny else {}
    return DiTTraining(
        **(
            {
                "preset": "mini",
                "tokens": 82_944,
                "steps": 200_000,
                "images": 0.08,
                "learning_rate": options.learning_rate,
                "warmup": 200,
                "decay": 0.5,
                "save_every": 2000,
                "snapshots": 0,
                "early": 0.0,
                "compile": options.compile,
                "mix": tuple(mix.items()),
                "minutes": options.minutes,
                "steadiness": 0.3,
                "region": 0.08,
            }
            | small
            | changes
        )
    )


def train_pair(options: argparse.Namespace) -> None:
    """Two short runs that differ in one setting, on the same batches; what the DiT is then trained with."""
    lessons, found = Lessons(options), {}
    warm = settings_of(options, steps=4, minutes=0.0, warmup=1)  # the first run would pay for compiling
    dit.train(
        warm, lessons.clips, lessons.judged, lessons.empty, lessons.vae, options.work / "warm", None, options.device
    )
    for weight in (0.0, ALIGNMENT):
        run = options.work / f"alignment-{weight:g}"
        settings = settings_of(options, alignment=weight, minutes=options.minutes / 2, save_every=100_000)
        dit.train(settings, lessons.clips, lessons.judged, lessons.empty, lessons.vae, run, None, options.device)
        last = parsed_json(read_text(run / "log.jsonl").splitlines()[-1], run / "log.jsonl", dict)
        found[weight] = last["validation_loss"]
        print(f"alignment {weight:g}: validation loss {found[weight]} after {last['step']} steps", flush=True)
        keep_log(run, options.keep, run.name)
    best = min(found, key=lambda weight: found[weight])
    write_json(options.work / "alignment.json", {"alignment": best})


def train_dit(options: argparse.Namespace) -> None:
    """The DiT on what is encoded, as soon as each size is there, and the checkpoint for the nodes."""
    chosen, run, lessons = options.work / "alignment.json", options.work / "dit", Lessons(options)
    alignment = read_json(chosen)["alignment"] if chosen.exists() else options.alignment
    dit.train(
        settings_of(options, alignment=alignment),
        lessons.clips,
        lessons.judged,
        lessons.empty,
        lessons.vae,
        run,
        None,
        options.device,
    )
    bundled = joined(load_checkpoint(run / "dit.safetensors"), load_checkpoint(options.work / "vae.safetensors"), CARD)
    save_checkpoint(options.work / "bundle.safetensors", bundled)
    keep(options.work / "bundle.safetensors", options.keep)
    keep_log(run, options.keep, "dit")


def train_distilled(options: argparse.Namespace) -> None:
    """Few steps: a LoRA of the DiT, taught by the DiT itself with guidance."""
    mix = TINY if options.tiny else MIX
    teacher = load_checkpoint(options.work / "bundle.safetensors")
    network, (empty, _) = teacher.vae(torch.bfloat16), load_text_encoder()([""])
    small = {"tokens": 32, "steps": 6, "dtype": "float32", "lora": 2} if options.tiny else {}
    settings = Distillation(
        **{
            "tokens": 20_736,
            "steps": 100_000,
            "images": 0.05,
            "learning_rate": 5e-4,
            "warmup": 50,
            "decay": 0.5,
            "save_every": 100_000,
            "snapshots": 0,
            "compile": options.compile,
            "mix": tuple(mix.items()),
            "minutes": options.minutes,
            "region": 0.08,
            "lora": options.rank,
        }
        | small
    )
    run, held_out = options.work / "distilled", LatentCache(options.work / "held-out")
    cache = GrowingCache(options.work / "clips")
    distill.train(settings, cache, held_out, empty[0].bfloat16(), network, run, teacher, options.device)
    keep(run / "lora.safetensors", options.keep)
    keep_log(run, options.keep, "distilled")


def train_captioner(options: argparse.Namespace) -> None:
    """The captioner on a part of the cached clips."""
    made = load_checkpoint(options.work / "vae.safetensors").vae(torch.bfloat16).to(options.device)
    clips = options.work / "clips"
    while not (options.work / "held-out.done").exists():
        time.sleep(0.5)
    names = sorted(path.name for path in clips.glob("*.safetensors"))
    random.Random(0).shuffle(names)
    names = sorted(names[: options.files])
    cache, held_out = LatentCache(options.work / "clips", names), LatentCache(options.work / "held-out")
    settings = captioner.CaptionerTraining(
        steps=20 if options.tiny else options.steps,
        tokens=256 if options.tiny else 12_288,
        learning_rate=2e-3,
        save_every=100_000,
        preset="test" if options.tiny else "toy",
    )
    captioner.train(settings, cache, held_out, made, options.work / "captioner", None, options.device)
    keep(options.work / "captioner" / "captioner.safetensors", options.keep)
    keep_log(options.work / "captioner", options.keep, "captioner")


PARTS = {
    "vae": train_vae,
    "pair": train_pair,
    "dit": train_dit,
    "distilled": train_distilled,
    "captioner": train_captioner,
}


def main() -> None:
    """One part of the training."""
    parser = argparse.ArgumentParser(prog="tools.card.train")
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="folder for what is to be carried away")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--alignment", type=float, default=0.0)
    parser.add_argument("--rank", type=int, default=48, help="distilled: rank of the LoRA")
    parser.add_argument("--files", type=int, default=120, help="captioner: files of cached clips")
    parser.add_argument("--steps", type=int, default=3000, help="captioner: steps")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    parts = {
        "vae": train_vae,
        "pair": train_pair,
        "dit": train_dit,
        "distilled": train_distilled,
        "captioner": train_captioner,
    }
    parts[options.part](options)


if __name__ == "__main__":
    main()
