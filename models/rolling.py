"""Video without end: a window that rolls along, clean latents at its front and noise at its back.

Each latent of a window has a noise level of its own (diffusion forcing, arXiv 2407.01392), rising from front to back
(rolling diffusion, arXiv 2402.09470). A turn takes all of them some steps down: then the front one is clean and comes
out, the window moves on by one and noise enters at the back. So a latent costs the same few model calls, and the same
memory, however long the video is. What has come out stays in sight for a while, as the context of what follows.

All randomness is a function of the seed and of a latent's number in the video, and a window holds all else: a stream
goes on from a saved window as if it had never stopped, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .flow import Denoiser
from .geometry import Frames
from .solvers import Solver
from .tasks.canvas import check_share
from .tasks.prompts import Key, shares_at
from .transfer import sent

CONTRAST = 0.5  # between the prompts of a window (tasks.prompts.contrasted): a change of prompts is then seen
FRESH, STEP = 0, 1  # what noise is for: latents that enter, and steps


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """How a window rolls.

    levels   the noise levels that each latent goes down, from 1 to 0
    open     latents that are denoised at a time; each comes out after len(levels) - 1 steps
    context  latents that have come out and are still seen
    eta      share of fresh noise in each step (solvers.euler_sde); 0: none
    s_noise  factor on that noise
    seed     of all noise
    """

    levels: tuple[float, ...]
    open: int
    context: int
    eta: float = 1.0
    s_noise: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.open < 1 or self.context < 0:
            raise ValueError(f"{self.open} latents at a time, {self.context} seen before them: use 1 and 0 at least")
        if self.steps % self.open or not self.steps:
            raise ValueError(
                f"{self.steps} steps cannot be shared evenly by {self.open} latents that are denoised at a time: use "
                f"a multiple of {self.open}"
            )
        if any(a <= b for a, b in pairwise(self.levels)) or self.levels[-1] != 0:
            raise ValueError("the noise levels of a stream must fall to 0")
        check_share(self.eta, "eta")

    @classmethod
    def within(cls, window: int, context: int, sigmas: Tensor, solver: Solver, seed: int = 0) -> Rolling:
        """Windows of so many latents, of which `context` at least have come out, on a schedule (n + 1,).

        As many are denoised at a time as share the steps evenly; where that is less than half of the room, all of it is
        used, and the steps are the nearest number that can be shared. ValueError without room, for solvers whose steps
        look back, and see ladder().
        """
        if solver.name not in ("euler", "euler_sde"):
            raise ValueError(
                f"a stream takes latents at many noise levels one step further, which {solver.name} cannot: use euler "
                "or euler_sde"
            )
        room, steps = window - context, len(sigmas) - 1
        if room < 1:
            raise ValueError(
                f"a window of {window} latents of which {context} have come out has none to denoise: make it longer"
            )
        even = next(count for count in range(room, 0, -1) if steps % count == 0)
        chosen = even if 2 * even >= min(room, steps) else room
        eta = solver.eta if solver.stochastic else 0.0
        return cls(
            levels=ladder(sigmas, chosen),
            open=chosen,
            context=window - chosen,
            eta=eta,
            s_noise=solver.s_noise,
            seed=seed,
        )

    @property
    def steps(self) -> int:
        """Steps that each latent takes from noise to clean."""
        return len(self.levels) - 1

    @property
    def each(self) -> int:
        """Steps of a turn: model calls for each latent."""
        return self.steps // self.open


@dataclass(frozen=True)
class Window:
    """A stream between two turns.

    latents  (B, C, known + open, H, W) float32: clean ones, then those that are being denoised
    known    how many are clean
    first    number in the video of the first one that is not
    turning  whether turns have been made, so that levels rise; before the first one all is noise
    """

    latents: Tensor
    known: int
    first: int
    turning: bool = False

    @property
    def length(self) -> int:
        """Latents in it."""
        return self.latents.shape[2]

    @property
    def numbers(self) -> range:
        """The numbers in the video of its latents."""
        return range(self.first - self.known, self.first - self.known + self.length)

    def on(self, device: torch.device | str) -> Window:
        """The same with its latents on a device."""
        return replace(self, latents=sent(self.latents, device))


def shares_of(window: Window, keys: Sequence[Key], time: Frames, fps: float, *, begin: int, fade: float) -> Shares:
    """The share of each text in each latent of a window, (T,) by text; those of all texts that it has.

    begin: number of the latent at which the times of the keys begin.
    """
    start = time.count(begin)
    edges = torch.tensor([time.count(n) - start for n in (*window.numbers, window.numbers.stop)], dtype=torch.float64)
    shares = shares_at(keys, (edges[:-1] + edges[1:]) / 2 / fps, fade)
    return {text: share for text, share in shares.items() if bool((share > 0).any())}


Shares = Mapping[str, Tensor]
Source = Callable[[int], Tensor]  # number of a latent in the video -> its noise (B, C, 1, H, W)
DenoiserOf = Callable[[Window], Denoiser]  # called (x, sigma (1, T)); a window's length and numbers tell its prompts


def opened(rolling: Rolling, clip: Tensor, fresh: Source | None = None) -> Window:
    """The window before the first turn: the end of a clip (B, C, T, H, W), which may have no latents, then noise."""
    seen = clip[:, :, max(0, clip.shape[2] - rolling.context) :].float()
    source = fresh or seeded(rolling.seed, (*clip.shape[:2], 1, *clip.shape[3:]))
    noise = [sent(source(clip.shape[2] + i), seen.device).to(seen) for i in range(rolling.open)]
    return Window(torch.cat([seen, *noise], dim=2), seen.shape[2], clip.shape[2])


def seeded(seed: int, shape: tuple[int, ...]) -> Source:
    """Noise on the CPU that a seed and a latent's number fix."""
    return lambda number: _noise(shape, seed_of(seed, FRESH, number))


def seed_of(seed: int, purpose: int, number: int, step: int = 0) -> int:
    """The seed of the noise for a purpose (FRESH, STEP), a latent's number in the video and a step of its turn."""
    # hashed, since torch's generator of the CPU takes 32 bits, and seeds in a row would share noise
    return int(np.random.SeedSequence([seed, purpose, number, step]).generate_state(1, np.uint32)[0])


def turn(rolling: Rolling, window: Window, denoise: Denoiser, fresh: Source | None = None) -> tuple[Tensor, Window]:
    """The next latent (B, C, 1, H, W), clean, and the window after it. Before the first one come all its steps.

    All of it stays where the window lies, and no step waits for a GPU.
    """
    x, known = window.latents, window.known
    for step, (now, after) in enumerate(pairwise(_places(rolling, window))):
        sigma, lower = (sent(_levels(rolling, known, place), x.device) for place in (now, after))
        denoised = denoise(x, sigma[None])
        noise = x
        if rolling.eta:
            drawn = _noise(x.shape, seed_of(rolling.seed, STEP, window.first, step))
            noise = rolling.s_noise * sent(drawn, x.device).to(x)
        x = step_down(x, denoised, sigma, lower, noise, rolling.eta)
    out = x[:, :, known : known + 1]
    source = fresh or seeded(rolling.seed, tuple(out.shape))
    gone = int(known == rolling.context)
    entering = sent(source(window.first + rolling.open), x.device).to(x)
    after_it = torch.cat([x[:, :, gone:], entering], dim=2)
    return out, Window(after_it, known + 1 - gone, window.first + 1, turning=True)


def stream(
    rolling: Rolling, window: Window, denoiser_of: DenoiserOf, fresh: Source | None = None
) -> Iterator[tuple[Tensor, Window]]:
    """Latent after latent (B, C, 1, H, W), without end, each with the window that the stream goes on from."""
    while True:
        latent, window = turn(rolling, window, denoiser_of(window), fresh)
        yield latent, window


def step_down(x: Tensor, denoised: Tensor, sigma: Tensor, lower: Tensor, noise: Tensor, eta: float) -> Tensor:
    """A step of latents (B, C, T, H, W) from levels sigma (T,) to levels (T,) that are lower or the same.

    Euler-Maruyama of the reverse SDE with diffusion eta * sigma, as solvers.euler_sde; eta 0 is euler.
    """
    now, then = (level.to(x)[:, None, None] for level in (sigma, lower))
    velocity = (x - denoised) / now.clamp(min=1e-6)
    drift = velocity + eta / 2 * (x + (1 - now) * velocity)
    moved = x - (now - then) * drift + (eta * now * (now - then)).sqrt() * noise
    return torch.where(now == then, x, torch.where(then == 0, denoised, moved))


def ladder(sigmas: Tensor, open_latents: int) -> tuple[float, ...]:
    """A schedule (n + 1,) with as many steps as so many latents can share: the nearest multiple, read between its own.

    ValueError for one that does not go down to 0.
    """
    steps = len(sigmas) - 1
    if steps < 1 or float(sigmas[-1]) != 0:
        raise ValueError("a stream takes each latent from noise to clean: give a whole schedule, which ends in 0")
    shared = open_latents * max(1, round(steps / open_latents))
    if shared == steps:
        return tuple(sigmas.tolist())
    where = np.linspace(0, steps, shared + 1)
    return tuple(np.interp(where, np.arange(steps + 1), sigmas.double().numpy()).tolist())


def _places(rolling: Rolling, window: Window) -> list[Tensor]:
    """How many steps each open latent has made, before and after each step of a turn, (open,) each."""
    behind = rolling.each * torch.arange(rolling.open)  # the steps that each is behind the front one
    if window.turning:
        return [rolling.steps - behind - rolling.each + step for step in range(rolling.each + 1)]
    # all go down together, until each has come to where the turns after this one want it
    return [(rolling.steps - behind).clamp(max=step) for step in range(rolling.steps + 1)]


def _levels(rolling: Rolling, known: int, place: Tensor) -> Tensor:
    """The levels of a window's latents, (known + open,)."""
    return torch.cat([torch.zeros(known), torch.tensor(rolling.levels)[place]])


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise, float32, drawn on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
