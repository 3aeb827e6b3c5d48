"""What the losses of Train VAE change: the toy VAE trained with each for equal steps, judged on held-out clips.

PSNR and SSIM say how near the pixels are; `perceptual` is the distance that AlexNet sees, which is not the network that
the loss uses (VGG). `sharpness` is the mean gradient of the reconstructions over that of the clips: below 1 is blur.
One thread, CPU seconds. Short runs compare losses, they are no finished VAEs.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

VARIANTS: dict[str, dict[str, Any]] = {
    "reconstruction + KL": {},
    "gradients at 3 scales": {"gradient_scales": 3},
    "perceptual": {"perceptual": 0.5},
    "adversarial": {"adversarial": 0.2},
    "perceptual + adversarial": {"perceptual": 0.5, "adversarial": 0.2},
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long to train, and on what."""
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--clips", type=int, default=60, help="clips to train on")
    parser.add_argument("--data", type=Path, help="folder of video files; left out: the toy world")
    parser.add_argument("--size", default="48x48x9")
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--only", choices=VARIANTS, nargs="*", default=list(VARIANTS))


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per loss: case, psnr, ssim, perceptual, sharpness, cpu_s_per_step."""
    import torch

    from ...models.clips.clips import ClipSet
    from ...models.geometry import ClipSize
    from ...models.metrics.perceptual import load_perceptual

    torch.set_num_threads(1)
    distance = load_perceptual("alex")
    sizes = ClipSize.parse_list(options.size)
    clips, held_out, _ = ClipSet(sizes=sizes, folder=str(options.data or ""), count=options.clips).pixels()
    for case in options.only:
        yield {"case": case} | trained(options, VARIANTS[case], clips, held_out[:8], distance)


def trained(
    options: argparse.Namespace, changes: dict[str, Any], clips: list[Any], held_out: list[Any], distance: Any
) -> dict[str, Any]:
    """Train with these losses and judge."""
    from ...models.training.vae.train import VAETraining, evaluate, train

    settings = VAETraining(
        preset=options.preset, steps=options.steps, save_every=options.steps, batch=2, learning_rate=1e-3, **changes
    )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        vae = train(settings, clips, held_out, Path(folder))
        spent = time.process_time() - begin
    scores = evaluate(vae, held_out)
    seen = list(seen_by(distance, vae, held_out))
    means = [sum(column) / len(seen) for column in zip(*seen, strict=True)]
    return {
        "psnr": scores["psnr"],
        "ssim": scores["ssim"],
        "perceptual": means[0],
        "sharpness": means[1],
        "cpu_s_per_step": spent / options.steps,
    }


def seen_by(distance: Any, vae: Any, clips: list[Any]) -> Iterator[tuple[float, float]]:
    """Perceptual distance and relative sharpness of each clip's reconstruction."""
    import torch

    from ...models.pixels import as_pixels
    from ...models.training.vae.train import encoded

    for held in clips:
        clip = as_pixels(held)
        with torch.no_grad():
            output = vae.decode(encoded(vae, clip))[0].clamp(-1, 1)
            far = distance(output.transpose(0, 1), clip.transpose(0, 1)).mean()
        slopes = [sum(float(video.diff(dim=axis).abs().mean()) for axis in (2, 3)) for video in (output, clip)]
        yield float(far), slopes[0] / slopes[1]
