"""Whether training and whole videos come out on the card as on the CPU, and a run that stops goes on to the bit."""

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.clips.cache import LatentCache
from ....models.clips.toy import cache_toy_world, toy_pixels
from ....models.generate import Models, generate
from ....models.geometry import ClipSize
from ....models.text.encoder import load_text_encoder
from ....models.training.dit import train as dit
from ....models.training.dit.settings import DiTTraining
from ....models.training.optim.optimiser import EMA, Optimiser
from ....models.training.run.stopping import StoppedError
from ....models.training.vae import train as vae
from ....models.transformer.config import PRESETS
from ....models.transformer.dit import DiT
from ....models.vae.autoencoder import PRESETS as VAES
from ....models.vae.autoencoder import VideoVAE
from ..packed_steps import by_size, clip_batches, pack_batches
from .measure import Card, Case, Found, difference, drawn, judged, noise

SIZE = ClipSize(32, 32, 9)
MIX = {(3, 4, 4): 2, (1, 4, 6): 1}  # latent frames, height, width: how many clips


def cases(card: Card) -> Iterable[Case]:
    """Training first: nobody notices there by looking."""
    yield Case("training step, fp32, Muon", lambda: step(card))
    yield Case("training step, fp32, AdamW", lambda: step(card, muon=False))
    yield Case("training step, fp32, clips packed", lambda: step(card, packed=True))
    yield Case("training step, bf16, clips packed", lambda: step(card, packed=True, dtype=card.half, limit=0.1))
    yield Case("training step, checkpoints", lambda: step(card, checkpointing=True))
    yield Case("the same gradients twice", lambda: twice(card))
    yield Case("the same gradients twice, packed", lambda: twice(card, packed=True))
    yield Case("a DiT run stopped and continued", lambda: resumed(card, {}))
    yield Case("a DiT run, packed, stopped and continued", lambda: resumed(card, {"packing": True}))
    yield Case("a VAE run", lambda: vae_run(card), 40)
    yield Case("a sentence becomes a video", lambda: sentence(card))
    yield Case("the embedded model, fp32, ten steps", lambda: embedded(card, torch.float32, 10, 0.1))
    yield Case("the embedded model, 24 steps", lambda: embedded(card, card.half, card.either(24, 2), None))


def step(
    card: Card,
    *,
    muon: bool = True,
    packed: bool = False,
    checkpointing: bool = False,
    dtype: torch.dtype = torch.float32,
    limit: float = 1e-3,
) -> Found:
    """Three steps on the same clips: the averaged weights."""
    singles = clip_batches(MIX)
    batch = pack_batches(singles) if packed else by_size(singles)[0]

    def run(place: Any, form: torch.dtype) -> Tensor:
        model = drawn(DiT(PRESETS["test"])).requires_grad_().to(place, form)
        model.checkpointing = checkpointing
        optimiser = Optimiser(model, learning_rate=1e-3, muon=muon)
        before = [master.clone() for master in optimiser.masters.values()]
        average = EMA(optimiser.masters)
        for number in range(3):
            loss = dit.batch_loss(model, batch)
            loss.backward()
            optimiser.step(1.0, loss)
            average.update(optimiser.masters, number + 1)
        moved = [new - old for new, old in zip(average.weights.values(), before, strict=True)]
        return torch.cat([part.cpu().flatten() for part in moved])

    found, wanted = run(card.device, dtype), run("cpu", torch.float32)
    # Adam divides by a gradient's own size, so where one is nearly nothing its sign may differ: all of them count
    off = float((found - wanted).norm() / wanted.norm())
    allowed = max(limit, 0.02)
    return Found(
        off, "of the CPU's", note=f"length of the difference of what was learned, limit {allowed}", ok=off <= allowed
    )


def twice(card: Card, *, packed: bool = False) -> Found:
    """Gradients of a step of `train dit` in half precision, made twice: only if they are equal does a run go on as it
    would have."""
    singles = clip_batches(card.either({(9, 12, 12): 8}, MIX))
    batch = pack_batches(singles) if packed else by_size(singles)[0]
    model = drawn(DiT(PRESETS["test" if card.tiny else "toy"]), 0.02).requires_grad_().to(card.device, card.half)
    made = []
    for _ in range(2):
        dit.batch_loss(model, batch).backward()
        made.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        model.zero_grad(set_to_none=True)
    equal = torch.equal(made[0], made[1])
    note = "equal to the bit" if equal else "not equal to the bit"
    return Found(difference(made[1], made[0]), "of the first", note=note, ok=equal)


@contextmanager
def clips() -> Iterator[tuple[Path, LatentCache, VideoVAE]]:
    """A folder, and in it a cache of toy-world latents of a VAE with random weights."""

    def encoder(texts: list[str]) -> tuple[Tensor, Tensor]:
        return noise(len(texts), 8, 384), torch.ones(len(texts), 8, dtype=torch.bool)

    with tempfile.TemporaryDirectory() as name:
        network = VideoVAE(VAES["test"])
        cache_toy_world(Path(name) / "clips", network, encoder, SIZE, 4)  # type: ignore[arg-type]
        yield Path(name), LatentCache(Path(name) / "clips"), network


def resumed(card: Card, changes: dict[str, Any]) -> Found:
    """Three steps at once, and with a stop after the second."""
    settings = DiTTraining(preset="test", steps=3, tokens=32, save_every=3, warmup=1, snapshots=2, **changes)
    asked = dit.asked_to_stop
    with clips() as (folder, cache, network):

        def run(name: str) -> DiT:
            empty = torch.zeros(2, 384)
            return dit.train(settings, cache, cache, empty, network, folder / name, None, str(card.device))

        whole = run("whole")
        answers = iter([False, True])
        try:
            dit.asked_to_stop = lambda: next(answers, False)
            run("halves")
        except StoppedError:
            pass
        finally:
            dit.asked_to_stop = asked
        again = run("halves")
    pairs = list(zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    equal = all(torch.equal(one, other) for one, other in pairs)
    off = max(difference(other, one) for one, other in pairs)
    return Found(off, "of the whole run's", note="equal to the bit" if equal else "not equal to the bit", ok=equal)


def vae_run(card: Card) -> Found:
    """Two steps of VAE training, with the report: PSNR of held-out clips."""
    made = toy_pixels(0, 4, SIZE)
    settings = vae.VAETraining(preset="test", steps=2, batch=1, crop=32, frames=(9,), save_every=2)
    with tempfile.TemporaryDirectory() as name:
        network = vae.train(settings, made, made[:1], Path(name) / "vae", device=str(card.device))
        psnr = vae.evaluate(network, made[:1])["psnr"]
    return Found(psnr, "dB", ok=bool(np.isfinite(psnr)))


def sentence(card: Card) -> Found:
    """Three steps of a small DiT with random weights, decoded: steps of brightness apart from the CPU's."""
    held = Models(drawn(DiT(PRESETS["test"])), drawn(VideoVAE(VAES["test"]), 0.05), load_text_encoder())
    size: dict[str, Any] = {"num_frames": 9, "height": 32, "width": 32, "steps": 3}
    wanted = generate(held, ["a red ball"], **size)[0].astype(int)
    there = Models(held.dit.to(card.device), held.vae.to(card.device), held.text)
    off = int(np.abs(generate(there, ["a red ball"], **size)[0].astype(int) - wanted).max())
    return Found(float(off), "of 255", note="limit 2", ok=off <= 2)


def embedded(card: Card, dtype: torch.dtype, steps: int, limit: float | None) -> Found:
    """A video of the embedded model, against the CPU's where there is a limit; its seconds, with the text, in `ms`."""
    size: dict[str, Any] = {"steps": steps} | card.either({}, {"num_frames": 5, "height": 32, "width": 32, "steps": 2})
    there = Models.load(device=str(card.device), dtype=dtype)
    prompt = ["a red ball rolls to the right"]
    generate(there, prompt, **size)
    begin = time.perf_counter()
    found = torch.from_numpy(generate(there, prompt, **size)[0])
    ms = 1000 * (time.perf_counter() - begin)
    if limit is None:
        contrast = float(found.float().std())
        return Found(contrast, "of 255 (deviation)", ms, f"{found.shape[0]} frames of 96 x 96", ok=contrast > 5)
    wanted = torch.from_numpy(generate(Models.load(dtype=torch.float32), prompt, **size)[0])
    return judged(found, wanted, limit)._replace(ms=ms)
