"""What a denoising run remembers between two calls of the step node.

A Trajectory is never changed: each call makes a new one that shares its records, so a workflow may branch, be cached
or be interrupted at any step. The records are the model's answers so far. Fed to the sampler again from the first
sigma, they bring it back to the bit to where it stopped, whatever history it keeps inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ....models.flow import add_noise
from ....models.patches import Tokens, change_mask, from_patches, to_patches, unpatchify
from ..latent import made

RngState = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One call of the model: its answer, and what else the sampler saw of it (all tensors in CPU memory).

    sigma  the noise level asked for: a replay must ask for the same
    cfg    for each run of a post-cfg function that the sampler had hung in: its position, and the tensors it read
    rng    global random state after the call, where the model drew from it
    """

    denoised: Tensor
    sigma: Tensor
    cfg: tuple[tuple[int, dict[str, Any]], ...] = ()
    rng: RngState | None = None


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """State of a denoising run at the call of the model that comes next.

    latents   (B, C, T, H, W) clean content, in the VAE's units; mask (B, 1, T, H, W) or None: 1 generate, 0 keep
    noise     (B, C, T, H, W) sigmas (S + 1,) seed, rng: what core's sampler would have started with
    schedule  all sigmas of the run; sigmas is a tail of it after a restart
    start     x that replaces noised latents at sigmas[0] after a restart, in the model's units
    edited    the same in the VAE's units, until a model is there to convert it; same: where it is still `start`
    sampler   fingerprint of the sampler whose calls were recorded
    pattern   dry run of the sampler: C a call of the model, B its callback; "" when it cannot be foreseen
    values    (B, N, P) what the tokens showed, to notice edits; denoised the last prediction, in the VAE's units
    x, sigma  input of the next call, in the model's units
    hidden    state that caches, scheduled hooks and random generators of the host had at that call
    draws     Brownian noise that was drawn so far
    solver    state of one of our own solvers (models.solvers), which needs no records
    """

    latents: Tensor
    mask: Tensor | None
    noise: Tensor
    sigmas: Tensor
    schedule: Tensor
    seed: int
    rng: RngState
    values: Tensor
    start: Tensor | None = None
    edited: Tensor | None = None
    same: Tensor | None = None
    sampler: str | None = None
    pattern: str | None = None
    records: tuple[Record, ...] = ()
    callbacks: int = 0
    step: int = 0
    steps_before: int = 0
    x: Tensor | None = None
    sigma: float = 0.0
    denoised: Tensor | None = None
    hidden: Any = field(default=None, repr=False)
    draws: dict[Any, Tensor] = field(default_factory=dict, repr=False)
    solver: Any = field(default=None, repr=False)
    done: bool = False
    note: str = ""

    @property
    def step_starts(self) -> list[int]:
        """Index of the call with which each step begins, [] when the sampler's calls cannot be foreseen.

        A step ends with its callback, so step n begins at the last call before the n-th callback; callbacks without
        a call between them belong to one step.
        """
        starts: list[int] = []
        calls, pending = 0, None
        for event in self.pattern or "":
            if event == "C":
                pending, calls = calls, calls + 1
            elif pending is not None:
                starts.append(0 if not starts else pending)
                pending = None
        return starts

    @property
    def position(self) -> tuple[int, int]:
        """Steps done and steps in all, over restarts."""
        total = self.steps_before + (len(self.step_starts) or len(self.sigmas) - 1)
        done = self.steps_before + self.step
        return done, done if self.done else max(total, done + 1)

    def ahead(self, steps: int) -> int:
        """How many steps a call that asks for `steps` (0 or less: all) will make, as far as that is known."""
        done, total = self.position
        return min(steps, total - done) if steps > 0 else total - done


def begin(tokens: Tokens, noise: Any, sigmas: Tensor) -> Tokens:
    """Forward diffusion: tokens at sigmas[0], with the run that leads back from there. `noise` is a core NOISE object.

    Each place is noised to its change level times sigmas[0], so kept patches stay clean to the eye; what the sampler
    starts from is formed from the same clean latents and noise by the model's own rule.
    """
    previous = tokens.trajectory
    if previous is not None and not previous.done:
        raise ValueError(
            "these tokens are in the middle of a run: take the denoised output of Unpatchify, or finish the run, "
            "before noising them again"
        )
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(
            f"a run needs at least two sigmas, got {sigmas.numel()}: raise steps or denoise in the scheduler"
        )
    latents, mask = unpatchify(tokens), change_mask(tokens)
    generated = noise.generate_noise(made(latents, mask, tokens.extra))
    if generated.shape != latents.shape:
        raise ValueError(
            f"the noise has shape {tuple(generated.shape)}, the latents {tuple(latents.shape)}: they must agree"
        )
    levels = float(sigmas[0]) if mask is None else mask * float(sigmas[0])
    values = to_patches(_noised(latents, generated, levels), tokens.patch)
    trajectory = Trajectory(
        latents=latents,
        mask=mask,
        noise=generated,
        sigmas=sigmas.detach().cpu().clone(),
        schedule=sigmas.detach().cpu().clone(),
        seed=noise.seed,
        rng=rng_state(),
        values=values.clone(),
        sigma=float(sigmas[0]),
    )
    return replace(tokens, values=values, reference=tokens.values, trajectory=trajectory)


def _noised(latents: Tensor, noise: Tensor, levels: Tensor | float) -> Tensor:
    if float(torch.as_tensor(levels).max()) <= 1:
        return add_noise(latents, noise, levels)
    return latents + levels * noise  # models with variance-exploding sigmas (EDM, eps)


def resume(tokens: Tokens, sampler: str) -> Trajectory:
    """The trajectory to go on with: the tokens' own, or a new one from the current x if they or the sampler changed."""
    trajectory: Trajectory | None = tokens.trajectory
    if trajectory is None:
        raise ValueError("these tokens carry no noise yet: put Forward Diffusion before DiT Denoise Step")
    if trajectory.done:
        return trajectory
    latents = trajectory.latents
    if tokens.reference is not None:
        latents = from_patches(tokens.reference, tokens.grids[0], tokens.patch)
    mask, edited = change_mask(tokens), not torch.equal(tokens.values, trajectory.values)
    kept_changed = not (_equal(mask, trajectory.mask) and torch.equal(latents, trajectory.latents))
    if kept_changed:
        trajectory = restart(replace(trajectory, mask=mask, latents=latents), "mask or kept content edited")
    if edited:
        before = from_patches(trajectory.values, tokens.grids[0], tokens.patch)
        trajectory = _edit(trajectory, unpatchify(tokens), before)
    if trajectory.sampler not in (None, sampler):
        trajectory = restart(trajectory, "sampler changed")
    return replace(trajectory, sampler=sampler)


def restart(trajectory: Trajectory, reason: str) -> Trajectory:
    """A run of the remaining sigmas from the current x, without history.

    The samplers' own noise gets another seed: with the old one they would add what they had added before.
    """
    if trajectory.x is None:  # nothing has been done since it began
        return replace(trajectory, sampler=None, pattern=None)
    rest = trajectory.sigmas[trajectory.sigmas < trajectory.sigma * (1 - 1e-6)]
    return replace(
        trajectory,
        start=trajectory.x,
        x=None,
        sigmas=torch.cat([torch.tensor([trajectory.sigma]), rest]),
        seed=(trajectory.seed + trajectory.step) % 2**64,
        sampler=None,
        pattern=None,
        records=(),
        callbacks=0,
        steps_before=trajectory.steps_before + trajectory.step,
        step=0,
        hidden=None,
        draws={},
        solver=None,
        note=f"new trajectory: {reason}",
    )


def _edit(trajectory: Trajectory, latents: Tensor, before: Tensor) -> Trajectory:
    """Take edited latents (VAE units) as the run's new x. Before the first step they imply another noise."""
    same = latents == before
    if trajectory.x is not None or trajectory.start is not None:
        return replace(restart(trajectory, "tokens edited"), edited=latents, same=same)
    levels = trajectory.sigma * (torch.ones_like(latents) if trajectory.mask is None else trajectory.mask)
    shift = torch.where(same | (levels <= 0), 0, (latents - before) / levels)
    return replace(trajectory, noise=trajectory.noise + shift, note="noise edited")


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def rng_state() -> RngState:
    """State of torch's global generators: the CPU's, then each CUDA device's."""
    begun = torch.cuda.is_available() and torch.cuda.is_initialized()
    return (torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if begun else []))


def set_rng_state(state: RngState) -> None:
    """Put rng_state() back."""
    torch.set_rng_state(state[0])
    for device, one in enumerate(state[1:]):
        torch.cuda.set_rng_state(one, device)


def fingerprint(value: Any) -> str:
    """Name a sampler by what it does, so that a rebuilt but equal object continues a run."""
    seen: dict[int, int] = {}
    number = count()

    def describe(item: Any) -> str:
        if isinstance(item, (str, int, float, bool, type(None), torch.dtype, torch.device)):
            return repr(item)
        if isinstance(item, Tensor):
            return f"tensor{item.tolist()}"
        if id(item) in seen:
            return f"#{seen[id(item)]}"
        seen[id(item)] = next(number)
        if isinstance(item, Mapping):
            return "{" + ",".join(f"{describe(k)}:{describe(v)}" for k, v in item.items()) + "}"
        if isinstance(item, (list, tuple, set, frozenset)):
            return "[" + ",".join(map(describe, item)) + "]"
        if isinstance(item, FunctionType):
            cells = [cell.cell_contents for cell in item.__closure__ or ()]
            return f"{item.__module__}.{item.__qualname__}{describe([cells, item.__defaults__, item.__kwdefaults__])}"
        if isinstance(item, partial):
            return f"partial{describe([item.func, item.args, item.keywords])}"
        if isinstance(item, type):
            return f"{item.__module__}.{item.__qualname__}"
        state = getattr(item, "__dict__", None)
        return f"{describe(type(item))}{describe(state) if state else repr(item)}"

    return describe(value)
