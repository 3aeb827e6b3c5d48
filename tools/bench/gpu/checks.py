"""Whether each network, solver and task gives on the card what it gives on the CPU."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....models import schedules, solvers
from ....models.captioner.network import PRESETS as CAPTIONERS
from ....models.captioner.network import CaptionNetwork
from ....models.patches import Grid, to_patches
from ....models.tasks import along_time, in_space
from ....models.transformer.attention import matmul_attention
from ....models.transformer.config import PRESETS
from ....models.transformer.dit import DiT
from ....models.transformer.packed import told
from ....models.vae.autoencoder import PRESETS as VAES
from ....models.vae.autoencoder import VideoVAE
from .measure import Card, Case, Found, drawn, judged, noise

X, TEXT = noise(2, 16, 3, 4, 6), noise(2, 5, 384)
MASK = torch.tensor([[True] * 5, [True, True, False, False, False]])
LEVELS = {"clip": torch.tensor([0.7, 0.3]), "frame": noise(2, 3).sigmoid(), "patch": noise(2, 18).sigmoid()}
FORWARDS: dict[str, dict[str, Any]] = {
    "forward, fp32": {},
    "forward, bf16": {"dtype": torch.bfloat16, "limit": 0.05},
    "forward, fp16": {"dtype": torch.float16, "limit": 0.01},
    "forward, a level per frame": {"level": "frame"},
    "forward, a level per patch": {"level": "patch"},
    "forward, a text mask": {"mask": MASK},
    "forward, a loop": {"cyclic": True, "level": "frame"},
    "forward, classes": {"labels": torch.tensor([1, 3])},
    "forward, plain products": {"attention": matmul_attention},
    "forward, twice as long (RIFLEx)": {"trained_frames": 2},
}


def cases(card: Card) -> Iterable[Case]:
    """The checks, those first that most depends on."""
    return (case._replace(heavy=False) for case in checks(card))


def checks(card: Card) -> Iterable[Case]:
    """What `cases` gives."""
    yield from (Case(name, lambda options=options: forward(card, **options)) for name, options in FORWARDS.items())
    for dtype, limit in ((torch.float32, 1e-4), (torch.bfloat16, 0.05)):
        name = f"packed clips, {str(dtype).removeprefix('torch.')}"
        yield Case(name, lambda dtype=dtype, limit=limit: packed(card, dtype, limit))
    yield from (Case(f"VAE, {name}", lambda call=call: vae(card, call)) for name, call in VAE_CALLS.items())
    yield Case("VAE, TF32 in its convolutions (torch's default)", lambda: vae(card, decode, tf32=True))
    yield Case("VAE, pieces equal the whole", lambda: pieces(card))
    yield Case("captioner", lambda: captioner(card))
    yield from (Case(f"solver {name}", lambda name=name: solver(card, name)) for name in solvers.SOLVERS)
    yield from (Case(f"task {name}", lambda task=task: of_task(card, task)) for name, task in TASKS.items())


def forward(
    card: Card,
    *,
    level: str = "clip",
    dtype: torch.dtype = torch.float32,
    limit: float = 1e-4,
    mask: Tensor | None = None,
    trained_frames: int = 0,
    **options: Any,
) -> Found:
    """One pass of a small DiT with random weights."""
    model = drawn(DiT(replace(PRESETS["test"], num_classes=4 if "labels" in options else 0)))
    cyclic = options.pop("cyclic", False)

    def run(to: Callable[[Tensor], Tensor], place: torch.device) -> Tensor:
        given = {name: value.to(place) if isinstance(value, Tensor) else value for name, value in options.items()}
        seen = None if mask is None else mask.to(place)
        prepared = model.prepare([Grid.of(X)], to(TEXT), seen, cyclic=cyclic, trained_frames=trained_frames)
        return model(to(X), LEVELS[level].to(place), prepared=prepared, **given)

    wanted = run(lambda x: x, torch.device("cpu"))
    model.to(card.device, dtype)
    return judged(run(lambda x: x.to(card.device, dtype), card.device), wanted, limit)


def packed(card: Card, dtype: torch.dtype, limit: float) -> Found:
    """Three clips in one row, with a text and a class each, and the gradients of it."""
    model = drawn(DiT(replace(PRESETS["test"], num_classes=4, hidden_size=128))).requires_grad_()
    clips = [X[:1], X[:1, :, :2, :2], X[:1, :, :1]]
    grids, values = [Grid.of(clip) for clip in clips], torch.cat([to_patches(clip) for clip in clips], dim=1)
    sigma, labels = noise(1, sum(grid.frames for grid in grids)).sigmoid(), torch.zeros(1, values.shape[1]).long()
    found = []
    for place, form in (("cpu", torch.float32), (card.device, dtype)):
        model.to(place, form).zero_grad()
        prepared = model.prepare(grids, TEXT[:1].repeat(1, 3, 1).to(place, form), context_lengths=(5, 5, 5))
        out = model.forward_tokens(values.to(place, form), sigma.to(place), prepared, labels=labels.to(place))
        out.float().square().mean().backward()
        gradient = model.blocks[0].self_attn.qkv.weight.grad
        found.append(torch.cat([part.detach().float().cpu().flatten() for part in (out, gradient * 100)]))
    return judged(found[1], found[0], limit, told(card.device))


def encode(network: VideoVAE, to: Callable[[Tensor], Tensor]) -> Tensor:
    """A clip of 17 frames."""
    return network.encode(to(PIXELS))


def decode(network: VideoVAE, to: Callable[[Tensor], Tensor]) -> Tensor:
    """Five latent frames."""
    return network.decode(to(LATENTS))


PIXELS, LATENTS = noise(1, 3, 17, 32, 48).clamp(-1, 1), noise(1, 16, 5, 4, 6)
VAE_CALLS: dict[str, Callable[[VideoVAE, Callable[[Tensor], Tensor]], Tensor]] = {
    "encode": encode,
    "decode": decode,
    "encode a loop": lambda network, to: network.encode(to(PIXELS[:, :, :16]), cyclic=True),
    "decode a loop": lambda network, to: network.decode(to(LATENTS), cyclic=True),
}


@contextmanager
def convolutions(*, tf32: bool) -> Iterator[None]:
    """Whether convolutions in fp32 may round to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def vae(card: Card, call: Callable[[VideoVAE, Callable[[Tensor], Tensor]], Tensor], *, tf32: bool = False) -> Found:
    """A small VAE with random weights in fp32."""
    network = drawn(VideoVAE(VAES["test"]), 0.05)
    wanted = call(network, lambda x: x)
    with convolutions(tf32=tf32):
        found = call(network.to(card.device), lambda x: x.to(card.device))
    return judged(found, wanted, 1e-2 if tf32 else 1e-4)


def pieces(card: Card) -> Found:
    """A clip encoded from pieces of odd lengths, against the whole of it, both on the card."""
    network = drawn(VideoVAE(VAES["test"]), 0.05).to(card.device)
    clip = PIXELS.to(card.device)
    found = torch.cat(list(network.encode_stream(clip.split([3, 1, 9, 4], dim=2))), dim=2)
    return judged(found, network.encode(clip), 1e-3)


def captioner(card: Card) -> Found:
    """The captioner's logits."""
    network = drawn(CaptionNetwork(replace(CAPTIONERS["test"], vocabulary=50)))
    latents, words = noise(2, 16, 3, 4, 6), torch.arange(14).reshape(2, 7)
    wanted = network(network.prefix(latents), words)
    network.to(card.device)
    return judged(network(network.prefix(latents.to(card.device)), words.to(card.device)), wanted, 1e-4)


def solver(card: Card, name: str) -> Found:
    """Six steps on a denoiser in plain arithmetic."""
    return judged(sampled(card.device, name), sampled(torch.device("cpu"), name), 1e-4)


def sampled(place: torch.device, name: str) -> Tensor:
    """What a solver makes of noise."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(x) * (1 - sigma.reshape(-1, 1, 1, 1, 1) / 2)

    levels = schedules.sigmas("linear", 6, shift=2.0)
    chosen = solvers.Solver(name=name, order=3)
    return solvers.sample(chosen, denoise, X.to(place), levels, None, solvers.noise_generator(3))


CLIP, REGION = noise(1, 16, 6, 4, 6), (noise(1, 1, 6, 4, 6) > 0).float()
TASKS: dict[str, Callable[[Tensor], Any]] = {
    "animate": lambda clip: along_time.animate([clip[:, :, :1], clip[:, :, 1:2]], [0, -1], 5),
    "extend": lambda clip: along_time.extend(clip, 2, 3),
    "connect by a gap": lambda clip: along_time.connect_gap(clip, clip, 2),
    "connect by a blend": lambda clip: along_time.connect_blend(clip, clip, 3, 0.3),
    "a new loop": along_time.loop_new,
    "close a loop": lambda clip: along_time.loop_clip(clip, 2),
    "restyle": lambda clip: in_space.restyle(clip, 0.5, REGION, 1, 4),
    "fill": lambda clip: in_space.fill(clip, REGION),
    "outpaint": lambda clip: in_space.outpaint(clip, 2, 2, 2, 2, 1),
}


def of_task(card: Card, task: Callable[[Tensor], Any]) -> Found:
    """A task's latents and mask, of a clip on the card and a mask on the CPU."""
    found, wanted = task(CLIP.to(card.device)), task(CLIP)
    both = [torch.cat([canvas.latents.cpu().flatten(), canvas.change.cpu().flatten()]) for canvas in (found, wanted)]
    result = judged(both[0], both[1], 1e-4)
    return result if found.latents.device.type == card.device.type else result._replace(ok=False, note="left the card")
