"""How a trajectory begins, and what edits make of it: the same run, another noise, or a run anew from the present x."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....models.flow import add_noise
from ....models.patches import Tokens
from ..latent import made
from .randomness import rng_state
from .state import Origin, Past, Pause, Schedule, Trajectory
from .streams import (
    begun,
    for_core,
    from_core,
    latents_of,
    masks_of,
    reference_of,
    shapes_of,
    shown,
    was_shown,
    with_latents,
)


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
    latents, mask, shapes = latents_of(tokens), masks_of(tokens), shapes_of(tokens)
    given = made(for_core(latents, shapes), for_core(mask, shapes), tokens.extra)
    generated = from_core(noise.generate_noise(given))
    if generated.shape != latents.shape:
        raise ValueError(
            f"the noise has shape {tuple(generated.shape)}, the latents {tuple(latents.shape)}: they must agree"
        )
    levels = float(sigmas[0]) if mask is None else mask * float(sigmas[0])
    noisy = with_latents(begun(tokens), _noised(latents, generated.to(latents), levels))
    levels_of_run = sigmas.detach().cpu().clone()
    trajectory = Trajectory(
        origin=Origin(latents=latents, mask=mask, noise=generated, seed=noise.seed, rng=rng_state()),
        schedule=Schedule(sigmas=levels_of_run, whole=levels_of_run),
        pause=Pause(sigma=float(sigmas[0])),
        values=shown(noisy).clone(),
    )
    return replace(noisy, trajectory=trajectory)


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
    origin = trajectory.origin
    latents = origin.latents
    kept = reference_of(tokens)
    if kept is not None:
        latents = kept
    mask, edited = masks_of(tokens), not torch.equal(shown(tokens), trajectory.values)
    if not (_equal(mask, origin.mask) and torch.equal(latents, origin.latents)):
        origin = replace(origin, mask=mask, latents=latents)
        trajectory = restart(replace(trajectory, origin=origin), "mask or kept content edited")
    if edited:
        trajectory = _edit(trajectory, latents_of(tokens), was_shown(tokens, trajectory.values))
    if trajectory.past.sampler not in (None, sampler):
        trajectory = restart(trajectory, "sampler changed")
    return replace(trajectory, past=replace(trajectory.past, sampler=sampler))


def restart(trajectory: Trajectory, reason: str) -> Trajectory:
    """A run of the remaining sigmas from the current x, without history.

    The samplers' own noise gets another seed: with the old one they would add what they had added before.
    """
    origin, past, pause = trajectory.origin, trajectory.past, trajectory.pause
    if pause.x is None:  # nothing has been done since it began
        return replace(trajectory, past=replace(past, sampler=None, pattern=None))
    return replace(
        trajectory,
        origin=replace(origin, start=pause.x, seed=(origin.seed + past.step) % 2**64),
        schedule=trajectory.schedule.rest(pause.sigma, past.step),
        past=Past(),
        pause=Pause(sigma=pause.sigma),
        note=f"new trajectory: {reason}",
    )


def _edit(trajectory: Trajectory, latents: Tensor, before: Tensor) -> Trajectory:
    """Take edited latents (VAE units) as the run's new x. Before the first step they imply another noise."""
    same = latents == before
    if trajectory.pause.x is not None or trajectory.origin.start is not None:
        anew = restart(trajectory, "tokens edited")
        return replace(anew, origin=replace(anew.origin, edited=latents, same=same))
    origin = trajectory.origin
    levels = trajectory.sigma * (torch.ones_like(latents) if origin.mask is None else origin.mask.to(latents))
    shift = torch.where(same | (levels <= 0), 0, (latents - before) / levels)
    return replace(trajectory, origin=replace(origin, noise=origin.noise + shift.to(origin.noise)), note="noise edited")


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b.to(a.device)))
