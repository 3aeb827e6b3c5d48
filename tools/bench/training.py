"""Training steps of the DiT: against a plain published loop, packed against padded and bucketed, and their memory.

step_*     CPU seconds of one step on one thread, by turns: ours as `train dit` does it (clipping, two averages; with
           Muon, whose extra products cost the same for any batch, or with AdamW) and a loop like fast-DiT's (eager,
           torch's AdamW, one average) around diffusers' DiT of equal width, depth and heads. Both learn
           class-conditional images of 256 patches of 16 values. ratio is reference / ours (above 1: ours is faster).
           MFU in the note: the share of the machine's peak that the model's products reach, forward and backward; the
           peak is a large matrix product of the same dtype in this run
packed_*   a step on clips of several sizes in one row (ours), against the same clips padded to the largest, and against
           one batch per size; packed_one_size: clips of one size against one batch of them
routed     half of the patches go past half of the blocks (ours), against none
*_memory   MB that a step needs above the weights, with checkpoints or in parts (ours) and at once
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...models.files import parsed_json
from ...models.patches import Grid
from ...models.training.dit.batches import Batch
from ...models.training.dit.profiles import Profiles
from ...models.training.dit.train import accumulated, batch_loss
from ...models.training.optim.optimiser import Optimiser
from ...models.training.run.folder import generator
from ...models.transformer.config import DiTConfig
from ...models.transformer.dit import DiT
from .forwards import forward_dtype
from .packed_steps import one_size_row, packing_rows
from .peak import Peak, resident_mb
from .routed_steps import routed_row
from .timing import by_turns

ROOT = Path(__file__).resolve().parents[2]
SHAPE = {"hidden_size": 256, "depth": 8, "num_heads": 4}
IMAGES, SIDE, CHANNELS = 10, 32, 4  # of latents: 16 x 16 patches each, 2560 in a step as in Train DiT
MEASURED = 16  # images in the steps whose memory is measured
ROUNDS = 3
Step = Callable[[], Any]


def rows() -> Iterable[dict[str, Any]]:
    """Rows name, ours, reference, ratio, note."""
    torch.set_num_threads(1)
    dtypes = [torch.bfloat16, torch.float32]
    for dtype in dtypes if forward_dtype() == torch.bfloat16 else dtypes[1:]:
        yield from step_rows(dtype)
    yield from packing_rows(forward_dtype())
    yield one_size_row(forward_dtype())
    yield routed_row(forward_dtype())
    for case, note in (("checkpointing", "blocks computed twice"), ("accumulate", "in four parts")):
        (less, longer), (plain, time) = (step_memory(c) for c in (case, "plain"))
        told = f"{note}, against at once: {longer / time:.2f} times the CPU time; MB, {MEASURED} images, bf16"
        yield {"name": f"{case}_memory", "ours": less, "reference": plain, "ratio": plain / less, "note": told}


def step_rows(dtype: torch.dtype) -> Iterable[dict[str, Any]]:
    """One step of ours with Muon and with AdamW, and of the plain loop."""
    sides = {"muon": our_step(dtype), "adamw": our_step(dtype, muon=False), "plain": plain_step(dtype)}
    taken = dict(zip(sides, by_turns([side.run for side in sides.values()], ROUNDS), strict=True))
    peak, plain, other = peak_flops(dtype), sides.pop("plain"), taken["plain"]
    for name, ours in sides.items():
        one = taken[name]
        shares = [f"{side.flops() / seconds / peak:.0%}" for side, seconds in ((ours, one), (plain, other))]
        note = (
            f"MFU {shares[0]} against {shares[1]} of {peak / 1e9:.0f} GFLOP/s, {IMAGES / one:.2f} against "
            f"{IMAGES / other:.2f} images/s, {ours.size:.1f} M against {plain.size:.1f} M weights (one adaLN for all "
            "blocks against one in each)"
        )
        case = f"step_{str(dtype).removeprefix('torch.')}_{name}"
        yield {"name": case, "ours": one, "reference": other, "ratio": other / one, "note": note}


class Side:
    """A training loop: `run()` is one step, `loss()` its forward pass."""

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor], update: Step) -> None:
        self.model, self.loss, self.update = model, loss, update
        self.size = sum(p.numel() for p in model.parameters()) / 1e6

    def run(self) -> None:
        """Forward, backward, optimiser, averages."""
        self.loss().backward()
        self.update()

    def flops(self) -> float:
        """Operations of the matrix products of a forward and backward pass; attention counted as its products."""
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.loss().backward()
        self.model.zero_grad(set_to_none=True)
        return float(counter.get_total_flops())


def our_step(dtype: torch.dtype, *, muon: bool = True) -> Side:
    """The step of `train dit`: weights in dtype, masters in fp32."""
    torch.manual_seed(0)
    model = DiT(image_config()).initialise().to(dtype)
    optimiser = Optimiser(model, learning_rate=1e-3, muon=muon)
    average, count = Profiles(optimiser.masters), iter(range(1, 10**9))
    batch = image_batch(IMAGES)

    def update() -> None:
        optimiser.step()
        average.update(optimiser.masters, next(count))

    return Side(model, lambda: batch_loss(model, batch), update)


def image_config() -> DiTConfig:
    """Our DiT for images with class labels."""
    return DiTConfig(
        **SHAPE,
        in_channels=CHANNELS,
        mlp_ratio=8 / 3,
        patch=(1, 2, 2),
        context_dim=0,
        num_classes=1000,
        prediction="velocity",
        learned_variance=False,
    )


def image_batch(images: int) -> Batch:
    """Random latents of images with labels."""
    rng = generator(0, 0)
    clean = torch.randn(images, 256, 4 * CHANNELS, generator=rng)
    noise, sigma = torch.randn(clean.shape, generator=rng), torch.rand(images, 1, generator=rng)
    labels = torch.randint(1000, (images,), generator=rng)
    grid = Grid(1, SIDE // 2, SIDE // 2)
    return Batch(clean, noise, sigma, torch.zeros(images, 1, 1), None, (grid,), cyclic=False, labels=labels)


def plain_step(dtype: torch.dtype) -> Side:
    """A loop like fast-DiT's: fp32 weights under autocast, AdamW, an average of all weights."""
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    heads, hidden = SHAPE["num_heads"], SHAPE["hidden_size"]
    model = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=hidden // heads,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=SHAPE["depth"],
        sample_size=SIDE,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
        activation_fn="gelu-approximate",
    ).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    rng = generator(0, 0)
    clean = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, generator=rng)
    noise, labels = torch.randn(clean.shape, generator=rng), torch.randint(1000, (IMAGES,), generator=rng)
    times = torch.randint(1000, (IMAGES,), generator=rng)
    kept = (1 - times[:, None, None, None] / 1000).sqrt()

    def loss() -> Tensor:
        noisy = kept * clean + (1 - kept.square()).sqrt() * noise
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            prediction = model(noisy, timestep=times, class_labels=labels).sample
        return F.mse_loss(prediction.float(), noise)

    @torch.no_grad()
    def update() -> None:
        optimiser.step()
        optimiser.zero_grad()
        for name, parameter in model.named_parameters():
            average[name].mul_(0.9999).add_(parameter, alpha=1e-4)

    return Side(model, loss, update)


def peak_flops(dtype: torch.dtype, size: int = 1536) -> float:
    """Operations per CPU second of a large matrix product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / by_turns([lambda: a @ b], 4)[0]


def step_memory(case: str) -> tuple[float, float]:
    """MB and CPU seconds of a step, from a process of its own."""
    command = [sys.executable, str(ROOT / "tools" / "pack.py"), "tools.bench.training", case]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of a step failed:\n{done.stderr[-2000:]}")
    megabytes, seconds = parsed_json(done.stdout.strip().splitlines()[-1], "the measurement", list)
    return float(megabytes), float(seconds)


def measure(case: str) -> tuple[float, float]:
    """Forward and backward in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DiT(image_config()).initialise().bfloat16()
    model.checkpointing = case == "checkpointing"
    batch = image_batch(MEASURED)
    accumulated(model, [(batch.part(slice(0, 1)), 1.0)])  # what torch loads on first use is not the step's
    before = resident_mb()
    pieces = [(piece, piece.count / batch.count) for piece in batch.parts(4 if case == "accumulate" else 1)]
    with Peak() as peak:
        accumulated(model, pieces)
    model.zero_grad(set_to_none=True)
    return peak.value - before, by_turns([lambda: accumulated(model, pieces)], 2)[0]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
