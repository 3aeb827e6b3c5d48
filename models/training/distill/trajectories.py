"""The teacher's way from noise to a video, cut into the steps of a student: each a straight line to learn.

Progressive distillation (arXiv 2202.00512) of a guided teacher (arXiv 2210.03142) in one go instead of by halves: the
student's schedule is fixed, so the teacher's solver runs through each of its few segments in small steps, and the
student learns the mean velocity that leads from one end to the other. One Euler step of it per segment then ends where
the teacher does. The answer to each input is one point, no average over many, so few steps are not blurred.

Every patch has its own share of the noise: 0 where it is known (first frames, regions), so students know all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ... import solvers
from ...flow import Denoiser, to_denoised
from ...schedules import sigmas
from ...solvers import Solver
from ...transfer import sent
from ...transformer.attention import matmul_attention, sdpa
from ...transformer.dit import DiT
from ..dit.batches import Batch
from .settings import Distillation

SOLVER = Solver(name="dpmpp_2m")  # second order, one call a step


@dataclass(frozen=True)
class Teacher:
    """A trained model with how it is run.

    model   on the device of the run; its weights do not change
    empty   features (L, E) of the empty prompt, which guidance leads away from
    levels  its noise levels, falling from 1 to 0; every `every`-th is one of the student's
    """

    model: DiT
    empty: Tensor
    levels: tuple[float, ...]
    every: int
    cfg: float

    @classmethod
    def of(cls, model: DiT, empty: Tensor, settings: Distillation) -> Teacher:
        """A model as the settings say."""
        levels = sigmas("linear", settings.student_steps * settings.substeps, shift=settings.shift).tolist()
        return cls(model.requires_grad_(False).eval(), empty, tuple(levels), settings.substeps, settings.cfg)

    @torch.no_grad()
    def segments(self, batch: Batch) -> Batch:
        """What a student is to do at each of its levels, for the clips of a batch (not packed), on the device.

        The batch's noise levels count as shares: of its clip's highest level, which a run begins at. Each row becomes
        one row per level of the student, whose `clean` and `noise` are the ends of the straight line through the state
        at that level along the velocity to learn; so flow matching on this batch is what distils.
        """
        device = self.model.cyclic_embedding.device
        clean, noise, sigma = (sent(tensor, device) for tensor in (batch.clean, batch.noise, batch.sigma))
        share = sigma / sigma.amax(dim=1, keepdim=True)
        share_of_token = share.repeat_interleave(clean.shape[1] // share.shape[1], dim=1)[..., None]  # (B, N, 1)
        batch = replace(batch, clean=clean, noise=noise, sigma=share)
        states = self._states(self._denoiser(batch), torch.lerp(clean, noise, share_of_token))
        levels = self.levels[:: self.every]
        lines = [
            _line(*ends, share_of_token, *between)
            for ends, between in zip(pairwise(states), pairwise(levels), strict=True)
        ]
        return _rows(batch, lines, torch.cat([share * level for level in levels[:-1]]))

    def _states(self, denoise: Denoiser, start: Tensor) -> list[Tensor]:
        """The states (B, N, P) at the student's levels on the way from `start`."""
        states = [start]
        levels = torch.tensor(self.levels)
        solvers.sample(SOLVER, denoise, start, levels, callback=lambda _, after: states.append(after.x))
        return states[:: self.every]

    def _denoiser(self, batch: Batch) -> Denoiser:
        """The guided teacher as a denoiser of tokens whose noise level is a share of the run's, batch.sigma.

        Both predictions of a step are made in one call. A patch of share 0 stays as it is.
        """
        model, weight = self.model, self.model.patch_embedder.weight
        device, guided = weight.device, self.cfg != 1
        context, mask, labels = self._conditions(batch, device)
        prepared = model.prepare(batch.grids, context.to(weight), mask, cyclic=batch.cyclic, device=device)
        share = batch.sigma.repeat(2, 1) if guided else batch.sigma
        kernel = matmul_attention if device.type == "cpu" else sdpa

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            both = x.repeat(2, 1, 1) if guided else x
            level = share * sigma[:1]
            per_token = level.repeat_interleave(x.shape[1] // level.shape[1], dim=1)
            levels = level if device.type == "cpu" else per_token  # as in `train dit`: one kind, one compiled graph
            output = model.forward_tokens(both.to(weight.dtype), levels, prepared, labels=labels, attention=kernel)
            denoised = to_denoised(output.float(), both, per_token, model.config.prediction)
            if not guided:
                return denoised
            with_text, without = denoised.chunk(2)
            return torch.lerp(without, with_text, self.cfg)

        return denoise

    def _conditions(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Texts (R, L, E), their mask (R, L) and labels (R,) of the batch's rows, and again as many without either."""
        context, mask = sent(batch.context, device), batch.mask if batch.mask is None else sent(batch.mask, device)
        labels = batch.label_rows(device)
        if self.cfg == 1:
            return context, mask, labels
        rows, length = context.shape[:2]
        words = min(len(self.empty), length)
        nothing = context.new_zeros(length, context.shape[2])
        nothing[:words] = sent(self.empty[:words], device).to(context)
        shown = torch.arange(length, device=device) < words
        marks = torch.ones(rows, length, dtype=torch.bool, device=device) if mask is None else mask
        none = None if labels is None else torch.full_like(labels, self.model.config.num_classes)
        return (
            torch.cat([context, nothing.expand(rows, -1, -1)]),
            torch.cat([marks, shown.expand(rows, -1)]),
            None if labels is None or none is None else torch.cat([labels, none]),
        )


def _line(state: Tensor, after: Tensor, share: Tensor, level: float, lower: float) -> tuple[Tensor, Tensor]:
    """The ends, at noise 0 and 1, of the straight line through a state at share x level and that at share x lower."""
    way = share * (level - lower)
    velocity = torch.where(way > 0, (state - after) / way.clamp(min=1e-12), torch.zeros_like(state))
    return state - share * level * velocity, state + (1 - share * level) * velocity


def _rows(batch: Batch, lines: Sequence[tuple[Tensor, Tensor]], sigma: Tensor) -> Batch:
    """The batch once for each line, with its ends and noise levels."""
    times = len(lines)
    clean, noise = (torch.cat(ends) for ends in zip(*lines, strict=True))
    return replace(
        batch,
        clean=clean,
        noise=noise,
        sigma=sigma,
        context=batch.context.repeat(times, 1, 1),
        mask=None if batch.mask is None else batch.mask.repeat(times, 1),
        labels=None if batch.labels is None else batch.labels.repeat(times),
    )
