"""The VAE: time of a frame, and memory that does not grow with the length."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ....models.vae.autoencoder import PRESETS, VideoVAE
from ....models.vae.memory import decoder_bytes, encoder_bytes
from .measure import Card, Case, Found

FPS = 12
SIZES = {"toy": (96, 96), "base": (480, 832)}  # pixels, height and width


def cases(card: Card) -> Iterable[Case]:
    """Decoding, which everybody does, then encoding."""
    for seconds in card.either((1, 10, 60), (1,)):
        yield Case(f"decode {seconds} s, embedded", lambda seconds=seconds: decode(card, "toy", seconds))
    for seconds in card.either((1, 10), (1,)):
        yield Case(f"decode {seconds} s, base, 480p, fp32", lambda seconds=seconds: decode(card, "base", seconds), 40)
    yield Case("decode 1 s, base, 480p, half", lambda: decode(card, "base", 1, card.half))
    yield Case("encode 10 s, embedded", lambda: encode(card, "toy", card.either(10, 1)))
    yield Case("encode 1 s, base, 480p, fp32", lambda: encode(card, "base", 1))
    yield Case("decode 60 s, base, 480p, fp32", lambda: decode(card, "base", card.either(60, 1)), 60)


def network(card: Card, preset: str, dtype: torch.dtype) -> VideoVAE:
    """A VAE with random weights."""
    made = VideoVAE(PRESETS["test" if card.tiny else preset]).eval().requires_grad_(requires_grad=False)
    for weight in made.parameters():
        weight.data.normal_(std=0.02)
    return made.to(card.device, dtype)


def found(card: Card, seconds: float, frames: int, held: float, asked: int) -> Found:
    """Milliseconds of a frame and the peak beside the weights, by what models/vae/memory.py says."""
    peak = card.peak_mb() - held
    note = f"{1000 * seconds:.0f} ms in all, peak {peak:.0f} MB beside the weights, estimated {asked / 1e6:.0f} MB"
    return Found(1000 * seconds / frames, "ms a frame", 1000 * seconds, note)


@torch.inference_mode()
def decode(card: Card, preset: str, seconds: int, dtype: torch.dtype = torch.float32) -> Found:
    """A stream of latents, each piece of pixels thrown away."""
    model = network(card, preset, dtype)
    height, width = card.either(SIZES[preset], (32, 32))
    length = 1 + FPS * seconds // 4

    def latents(count: int) -> Iterator[Tensor]:
        for _ in range(count):
            yield torch.zeros(1, 16, 1, height // 8, width // 8, device=card.device, dtype=dtype)

    for _ in model.decode_stream(latents(3)):
        pass  # the first pieces choose their convolutions
    card.empty()
    held = card.peak_mb()

    def run() -> None:
        for _ in model.decode_stream([torch.cat(list(latents(length)), dim=2)]):
            pass

    took = card.once(run)
    asked = decoder_bytes(model.config, (1, 16, length, height // 8, width // 8))
    return found(card, took, 4 * length - 3, held, asked)


@torch.inference_mode()
def encode(card: Card, preset: str, seconds: int) -> Found:
    """A stream of pixels in pieces of four frames."""
    model = network(card, preset, torch.float32)
    height, width = card.either(SIZES[preset], (32, 32))
    count = 1 + FPS * seconds // 4 * 4

    def pixels(length: int) -> Iterator[Tensor]:
        for size in (1, *[4] * (length // 4)):
            yield torch.zeros(1, 3, size, height, width, device=card.device)

    for _ in model.encode_stream(pixels(9)):
        pass
    card.empty()
    held = card.peak_mb()

    def run() -> None:
        for _ in model.encode_stream(pixels(count)):
            pass

    took = card.once(run)
    return found(card, took, count, held, encoder_bytes(model.config, (1, 3, count, height, width)))
