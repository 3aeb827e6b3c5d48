"""Encode rendered clips as they come, on the card: `python3 tools/pack.py tools.card.encode --work DIR`.

Texts are encoded at once, latents as soon as the VAE is there. The cached clips are those that `train cache` makes.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ...models.checkpoints import load_checkpoint
from ...models.clips.cache import text_features
from ...models.clips.shards import mark_of, write_shard
from ...models.geometry import FPS, ClipSize
from ...models.pixels import as_pixels
from ...models.text.encoder import TextEncoder, load_text_encoder
from ...models.transfer import sent
from ...models.vae.autoencoder import VideoVAE, fingerprint
from .render import Rendered, read_file

TEXTS = 1024  # at once
PIXELS = 25 * 33 * 128 * 128  # at once


@torch.no_grad()
def latents_of(vae: VideoVAE, frames: Tensor, *, cyclic: bool) -> Tensor:
    """Latents (n, C, T, h, w), bf16, on the CPU, of clips (n, F, H, W, 3) uint8."""
    weight = vae.encoder.linear.weight
    at_once = max(1, PIXELS // frames[0, ..., 0].numel())
    made = []
    for part in frames.split(at_once):
        pixels = as_pixels(sent(part, weight.device).permute(0, 4, 1, 2, 3)).to(weight.dtype)
        made.append(vae.encode(pixels, cyclic=cyclic).bfloat16())
    return torch.cat(made).cpu()


def encode_file(
    path: Path, out: Path, vae: VideoVAE, encoder: TextEncoder, features: list[Tensor] | None, held: Rendered
) -> None:
    """Write one file's clips into the cache and remove it."""
    size, _, number = path.stem.rpartition("-")
    start, mark = int(number), fingerprint(vae)
    texts = [line for lines in held.captions for line in lines]
    features = features or text_features(encoder, texts, TEXTS)
    cyclic = ClipSize.parse(size).cyclic
    latents = list(latents_of(vae, torch.from_numpy(held.frames), cyclic=cyclic))
    made_from = {"vae": mark, "clips": mark_of(["toy", size, start, len(latents)]), "first": 0}
    described = {"size": size, "cyclic": cyclic, "fps": FPS, "made_from": made_from}
    write_shard(
        out / "clips" / f"toy-{size}-{mark}-{start:06d}.safetensors",
        latents,
        held.captions,
        held.classes,
        features,
        described,
        list(torch.from_numpy(held.truth)),
    )
    (out / "encoded" / path.stem).touch()
    path.unlink()


def main() -> None:
    """Encode until the file `stop` appears in the work folder."""
    parser = argparse.ArgumentParser(prog="tools.card.encode")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    for name in ("clips", "encoded", "rendered"):
        (options.work / name).mkdir(parents=True, exist_ok=True)
    encoder = load_text_encoder(options.device)
    told: dict[str, list[Tensor]] = {}
    checkpoint = options.work / "vae.safetensors"
    while not checkpoint.exists():  # until then the texts
        fresh = [p for p in (options.work / "rendered").glob("*.safetensors") if p.stem not in told]
        for path in fresh[:4]:
            lines = [line for lines in read_file(path).captions for line in lines]
            told[path.stem] = text_features(encoder, lines, TEXTS)
        time.sleep(0.05 if fresh else 0.5)
    vae = load_checkpoint(checkpoint).vae(torch.bfloat16).to(options.device)
    began, files = time.monotonic(), 0
    with ThreadPoolExecutor(4) as pool:
        while not (options.work / "stop").exists():
            found = oldest(options.work / "rendered")
            for path, held in zip(found, pool.map(read_file, found), strict=True):
                encode_file(path, options.work, vae, encoder, told.pop(path.stem, None), held)
                files += 1
            if found:
                print(f"{files} files encoded in {time.monotonic() - began:.0f} s", flush=True)
            time.sleep(0.2)


def oldest(folder: Path) -> list[Path]:
    """At most eight rendered files, the oldest first."""
    return sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)[:8]


if __name__ == "__main__":
    main()
