"""How near the large networks come to the card's own rate of matrix products."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ....models.patches import Grid
from ....models.training.dit.batches import Batch
from ....models.training.dit.train import batch_loss
from ....models.training.optim.optimiser import EMA, Optimiser
from ....models.transformer.config import PRESETS, DiTConfig
from ....models.transformer.dit import DiT
from .measure import Card, Case, Found, noise, operations

# two of the forty blocks of a model of 14 billion weights
LARGE = DiTConfig(
    in_channels=16,
    hidden_size=5120,
    depth=2,
    num_heads=40,
    mlp_ratio=8 / 3,
    patch=(1, 2, 2),
    context_dim=4096,
    num_classes=0,
    prediction="velocity",
    learned_variance=False,
)
META = torch.device("meta")


def cases(card: Card) -> Iterable[Case]:
    """Training of DiT-XL/2 first, then inference."""
    yield Case("matrix rate", lambda: matrix_rate(card))
    batch = card.either(64, 2)
    yield Case(f"XL, 256 patches x {batch}, gradients", lambda: gradients(card, "XL", batch), 40)
    yield Case(f"XL, 256 patches x {batch}, whole step, Muon", lambda: whole_step(card, "XL", batch), 40)
    yield Case(f"XL, 256 patches x {batch}, whole step, AdamW", lambda: whole_step(card, "XL", batch, muon=False), 40)
    for count in card.either((4096, 16384, 32768), (64,)):
        yield Case(f"14B-class block, {count} patches", lambda count=count: large(card, count))


def compiled_cases(card: Card) -> Iterable[Case]:
    """The same with compiled blocks."""
    batch = card.either(64, 2)
    yield Case(f"XL, 256 patches x {batch}, gradients", lambda: gradients(card, "XL", batch, compiled=True), 100)
    yield Case("14B-class block", lambda: large(card, card.either(16384, 64), compiled=True), 60)


def matrix_rate(card: Card) -> Found:
    """bf16 (or fp16), 8192 x 8192 by 8192 x 8192: what all shares are shares of."""
    return Found(card.rate(card.half) / 1e12, "TFLOP/s", note=str(card.half).removeprefix("torch."))


def config_of(card: Card, name: str) -> DiTConfig:
    """A preset for images with class labels, as DiT is trained (arXiv 2212.09748)."""
    preset = PRESETS["test" if card.tiny else name]
    return replace(preset, in_channels=4, context_dim=0, num_classes=1000)


def images(config: DiTConfig, count: int, place: torch.device) -> Batch:
    """Latents of 256 patches with labels and noise, where they are needed."""
    values = 4 * config.in_channels
    clean, other = (noise(count, 256, values, seed=seed).to(place) for seed in (1, 2))
    sigma = torch.full((count, 1), 0.5).to(place)
    labels = torch.zeros(count, dtype=torch.long, device=place)
    return Batch(clean, other, sigma, torch.zeros(count, 1, 1).to(place), None, (Grid(1, 16, 16),), False, (), labels)


@contextmanager
def training(
    card: Card, name: str, count: int, *, compiled: bool = False
) -> Iterator[tuple[DiT, Callable[[], Tensor], float]]:
    """A model on the card, its loss, and the operations of a step."""
    config = config_of(card, name)
    model = on_card(card, lambda: DiT(config)).requires_grad_().train()
    if compiled:
        compile_blocks(card, model)
    batch = images(config, count, card.device)
    yield model, lambda: batch_loss(model, batch), operations_of_a_step(config, count)


@cache
def operations_of_a_step(config: DiTConfig, count: int) -> float:
    """Operations of the products of a forward and a backward pass."""
    idle, unreal = DiT(config, device="meta"), images(config, count, META)
    return operations(lambda: batch_loss(idle, unreal).backward())


def on_card(card: Card, build: Callable[[], nn.Module]) -> Any:
    """A network with random weights in half precision, made on the card."""
    with card.device:
        model = build().to(card.half)
    for weight in model.parameters():
        weight.data.normal_(std=0.02)
    return model.requires_grad_(requires_grad=False)


def compile_blocks(card: Card, model: DiT) -> None:
    """Each block compiled, for one shape."""
    for block in model.blocks:
        block.compile(dynamic=False, backend=card.either("inductor", "eager"))


def gradients(card: Card, name: str, count: int, *, compiled: bool = False) -> Found:
    """Forward and backward pass."""
    with training(card, name, count, compiled=compiled) as (model, loss, flops):

        def run() -> None:
            loss().backward()
            model.zero_grad(set_to_none=True)

        ms = card.milliseconds(run)
    note = f"{1000 * count / ms:.0f} images/s, {flops / 1e12:.2f} TFLOP, peak {card.peak_mb():.0f} MB"
    return Found(card.share(flops, ms, card.half), "MFU", ms, note)


def whole_step(card: Card, name: str, count: int, *, muon: bool = True) -> Found:
    """Forward, backward, optimiser and average; the optimiser alone is in the note."""
    with training(card, name, count) as (model, loss, flops):
        optimiser = Optimiser(model, learning_rate=1e-4, muon=muon)
        average = EMA(optimiser.masters)

        def run() -> None:
            value = loss()
            value.backward()
            optimiser.step(1.0, value)
            average.update(optimiser.masters, optimiser.steps)

        ms = card.milliseconds(run)
        loss().backward()
        kept = {name: p.grad for name, p in model.named_parameters()}

        def update() -> None:
            for key, parameter in model.named_parameters():
                parameter.grad = kept[key]
            optimiser.step()

        alone = card.milliseconds(update)
    note = f"{1000 * count / ms:.0f} images/s, optimiser {alone:.1f} ms, peak {card.peak_mb():.0f} MB"
    return Found(card.share(flops, ms, card.half), "MFU", ms, note)


def grid_of(count: int) -> Grid:
    """About as many patches, in 16 frames."""
    side = max(1, int((count / 16) ** 0.5))
    return Grid(16, side, count // 16 // side)


def forward_of(model: DiT, grid: Grid, text: int) -> Callable[[], Tensor]:
    """A pass over a clip of a grid, with the text prepared once, as in use."""
    config, weight = model.config, next(model.parameters())
    context = torch.zeros(1, text, config.context_dim, dtype=weight.dtype, device=weight.device) if text else None
    values = torch.zeros(1, grid.num_tokens, 4 * config.in_channels, dtype=weight.dtype, device=weight.device)
    sigma = torch.full((1,), 0.5).to(weight.device)
    prepared = model.prepare([grid], context)
    return lambda: model.forward_tokens(values, sigma, prepared)


def inference(card: Card, name: str, count: int) -> Found:
    """A forward pass of a preset with a text of 512."""
    config = PRESETS["test" if card.tiny else name]
    return timed(card, config, grid_of(count))


def large(card: Card, count: int, *, compiled: bool = False) -> Found:
    """Two blocks of a model of the 14B class with a text of 512."""
    config = replace(LARGE, hidden_size=64, num_heads=2) if card.tiny else LARGE
    return timed(card, config, grid_of(count), compiled=compiled)


def timed(card: Card, config: DiTConfig, grid: Grid, *, compiled: bool = False) -> Found:
    """A forward pass: its share of the rate."""
    with torch.inference_mode():
        model = on_card(card, lambda: DiT(config)).eval()
        if compiled:
            compile_blocks(card, model)
        ms = card.milliseconds(forward_of(model, grid, 512))
    flops = operations(forward_of(DiT(config, device="meta"), grid, 512))
    note = f"{grid.num_tokens} patches, {flops / 1e12:.2f} TFLOP, peak {card.peak_mb():.0f} MB"
    return Found(card.share(flops, ms, card.half), "MFU", ms, note)
