"""The small model, whose time on a card is that of starting kernels: eager, compiled, and as a CUDA graph."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ....models.training.dit.train import batch_loss
from ....models.training.optim.optimiser import EMA, Optimiser
from ....models.transformer.config import PRESETS
from ....models.transformer.dit import DiT
from ..packed_steps import by_size, clip_batches, pack_batches
from .measure import Card, Case, Found
from .networks import compile_blocks, forward_of, grid_of, on_card

CLIPS = {(9, 12, 12): 16}  # latent frames, height, width: 5184 patches, a step of Train DiT
MIXED = {(9, 12, 12): 8, (5, 8, 12): 12, (1, 12, 12): 36}


def cases(card: Card) -> Iterable[Case]:
    """A forward pass of the embedded model's size, then its training."""
    yield Case("forward, eager", lambda: forward(card, "eager"))
    yield Case("forward, CUDA graph", lambda: forward(card, "graph"))
    yield Case("step, 5184 patches, eager", lambda: step(card))
    yield Case("step, 5184 patches packed, eager", lambda: step(card, packed=True))


def compiled_cases(card: Card) -> Iterable[Case]:
    """The same, compiled."""
    yield Case("small, forward", lambda: forward(card, "compiled"), 60)
    yield Case("small, step, 5184 patches", lambda: step(card, compiled=True), 100)


def small(card: Card) -> DiT:
    """The embedded model's shape with random weights."""
    made: DiT = on_card(card, lambda: DiT(PRESETS["test" if card.tiny else "toy"]))
    return made


@torch.inference_mode()
def forward(card: Card, kind: str) -> Found:
    """A pass over 33 frames of 96 x 96 pixels: 324 patches."""
    model = small(card).eval()
    if kind == "compiled":
        compile_blocks(card, model)
    run = forward_of(model, card.either(grid_of(324), grid_of(64)), 32)
    if kind == "graph":
        run = graph_of(card, run)
    ms = card.milliseconds(run)
    return Found(1000 / ms, "passes/s", ms, kind)


def graph_of(card: Card, run: Callable[[], Tensor]) -> Callable[[], Any]:
    """A recording of what the card was told to do."""
    if not card.cuda:
        raise ValueError("a CPU has no CUDA graphs")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = run()

    def again() -> Tensor:
        graph.replay()
        return kept

    return again


def step(card: Card, *, compiled: bool = False, packed: bool = False) -> Found:
    """A step of `train dit`, batches from the CPU's memory and all."""
    model = small(card).requires_grad_().train()
    if compiled:
        compile_blocks(card, model)
    clips = card.either(MIXED if packed else CLIPS, {(3, 4, 4): 2})
    singles = clip_batches(clips)
    batch = pack_batches(singles) if packed else by_size(singles)[0]
    optimiser = Optimiser(model, learning_rate=1e-4)
    average = EMA(optimiser.masters)

    def run() -> None:
        loss = batch_loss(model, batch)
        loss.backward()
        optimiser.step(1.0, loss)
        average.update(optimiser.masters, optimiser.steps)

    ms = card.milliseconds(run)
    patches = batch.clean.shape[0] * batch.clean.shape[1]
    return Found(
        1000 / ms, "steps/s", ms, f"{1000 * batch.count / ms:.0f} clips/s, {patches} patches, Muon, one average"
    )
