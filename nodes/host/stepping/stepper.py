"""Run k steps of any core sampler and stop, exactly: n single steps are one run of n, to the bit.

Core's samplers are functions over a whole schedule and keep their history in local variables. So every call starts the
sampler again at the first sigma, through `guider.sample()` with the full schedule, the original noise, latent and mask.
Calls of the model that were made before are answered from the trajectory's records; new ones go to the guider; at the
first call that is not wanted a private exception ends the sampler, and that call's x is the new state.
Mask blending and noise scaling stay core's own code, and wrappers, hooks and patches see an ordinary run.
Our own solvers (models.solvers) have explicit state and go on from it without a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ....models.patches import Tokens
from ..messages import check_interrupted
from ..model.masks import check_mask
from ..sounding import picture_channels
from ..strips import strip
from .brownian import remembered
from .fingerprint import fingerprint, made_by
from .goal import Goal
from .own_solver import SolverWatcher
from .randomness import rng_state, set_rng_state
from .replay import Callback, Diverged, Stop, Watcher, kept
from .state import Trajectory
from .streams import for_core, from_core, shapes_of, shown, with_latents
from .trajectory import restart, resume

StepText = Callable[[str], None]


class _Arguments(NamedTuple):
    """What core hands to a sampler besides model and schedule."""

    extra_args: dict[str, Any]
    callback: Callback | None
    noise: Tensor
    latent_image: Tensor | None
    denoise_mask: Tensor | None
    disable_pbar: bool


class StepSampler(comfy.samplers.Sampler):
    """A core SAMPLER that runs another one from a trajectory to a goal; then `trajectory` is the new one."""

    def __init__(self, inner: Any, trajectory: Trajectory, goal: Goal) -> None:
        self.inner = inner
        self.trajectory = trajectory
        self.goal = goal
        self.denoised: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not set yet: do not look for it in itself
            raise AttributeError(name)
        return getattr(self.inner, name)  # wrappers of other packs look at a sampler's own attributes

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Called by core inside guider.sample(), as any sampler."""
        self.trajectory = _placed(self.trajectory, model_wrap)
        quiet = disable_pbar or not self.goal.is_all  # a console bar per step would say nothing
        arguments = _Arguments(extra_args, callback, noise, latent_image, denoise_mask, quiet)
        try:
            return self._run(model_wrap, sigmas, arguments)
        except Diverged:
            self.trajectory = restart(self.trajectory, "the past steps cannot be repeated with this sampler and model")
            set_rng_state(self.trajectory.origin.rng)
            return self._run(model_wrap, self.trajectory.schedule.sigmas.to(sigmas), arguments)

    def _run(self, guider: Any, sigmas: Tensor, arguments: _Arguments) -> Tensor:
        extra_args = dict(arguments.extra_args)  # samplers put their own entries in
        if len(sigmas) != len(self.trajectory.schedule.whole):
            full = self.trajectory.schedule.whole.to(sigmas)
            extra_args["model_options"].setdefault("transformer_options", {})["sample_sigmas"] = full
        settings = (self.goal, extra_args["model_options"], arguments.callback, check_interrupted)
        watcher: Watcher
        if hasattr(self.inner, "spacetime_solver"):
            watcher = own = SolverWatcher(guider, self.trajectory, *settings)
            inner = own.stepwise(self.inner)
        else:
            inner, trajectory = self.inner, self.trajectory
            if trajectory.past.pattern is None:
                pattern = dry_run(inner, guider, sigmas, extra_args, arguments.noise)
                trajectory = replace(trajectory, past=replace(trajectory.past, pattern=pattern))
            watcher = Watcher(guider, trajectory, *settings)
        draws = dict(self.trajectory.past.draws)
        try:
            with remembered(draws), _starting_from(guider, self.trajectory.origin.start):
                samples: Tensor = inner.sample(watcher, sigmas, extra_args, watcher.on_callback, *arguments[2:])
            self.trajectory = watcher.finished()
        except Stop:
            samples = watcher.x
            stopped = watcher.stopped()
            self.trajectory = replace(stopped, past=replace(stopped.past, draws=draws))
        self.denoised = watcher.denoised
        return samples


def _placed(trajectory: Trajectory, guider: Any) -> Trajectory:
    """Bring an edited x from the VAE's units into the model's; untouched places keep their exact value."""
    origin = trajectory.origin
    if origin.edited is None:
        return trajectory
    x = guider.inner_model.process_latent_in(origin.edited)
    if origin.start is not None and origin.same is not None:
        x = torch.where(origin.same, origin.start.to(x), x)
    return replace(trajectory, origin=replace(origin, start=x, edited=None, same=None))


@contextmanager
def _starting_from(guider: Any, start: Tensor | None) -> Iterator[None]:
    """Let the sampler begin at `start`, where it would mix latent and noise at the first sigma."""
    if start is None:
        yield
        return
    model_sampling = guider.inner_model.model_sampling
    used: list[bool] = []

    def noise_scaling(_sigma: Any, noise: Tensor, *_: Any, **__: Any) -> Tensor:
        used.append(True)
        vars(model_sampling).pop("noise_scaling")  # once: masks ask the same method at every call
        return start.to(noise, copy=True)

    model_sampling.noise_scaling = noise_scaling
    try:
        yield
    finally:
        vars(model_sampling).pop("noise_scaling", None)
        if not used:
            raise ValueError("this sampler cannot start from edited tokens: it sets its first x without noise_scaling")


def dry_run(sampler: Any, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], noise: Tensor) -> str:
    """Calls and callbacks of a sampler as a string of C and B, from a run over one number per clip.

    Two unlike stand-ins for the model must give the same string. If they do not, the sampler fits its steps to the
    model's answers and nothing can be foreseen: "". The same goes for one that cannot run on so small a tensor.
    """
    models: list[Callable[[Tensor], Tensor]] = [lambda x: x / 2, torch.tanh]
    patterns = {_pattern(sampler, guider, sigmas, extra_args, noise, model) for model in models}
    return patterns.pop() if len(patterns) == 1 else ""


def _pattern(
    sampler: Any,
    guider: Any,
    sigmas: Tensor,
    extra_args: dict[str, Any],
    noise: Tensor,
    model: Callable[[Tensor], Tensor],
) -> str:
    events: list[str] = []
    state = rng_state()
    hung_in = extra_args["model_options"].get("sampler_post_cfg_function", [])

    class StandIn:
        def __getattr__(self, name: str) -> Any:
            return getattr(guider, name)

        def __call__(self, x: Tensor, sigma: Tensor, model_options: Any = None, **_: Any) -> Tensor:
            events.append("C")
            if len(events) > 100 * len(sigmas):
                raise Stop
            denoised = model(x)
            args = {"denoised": denoised, "uncond_denoised": denoised, "cond_denoised": denoised}
            for function in (model_options or {}).get("sampler_post_cfg_function", []):
                if function not in hung_in:
                    function({**args, "input": x, "sigma": sigma, "model": guider.inner_model})
            return denoised

    tiny = noise[(slice(None), *([slice(0, 1)] * (noise.ndim - 1)))].clone()  # (B, 1, 1, 1, 1)
    arguments = _Arguments(dict(extra_args), lambda *_: events.append("B"), tiny, torch.zeros_like(tiny), None, True)
    try:
        sampler.sample(StandIn(), sigmas.clone(), *arguments)
    except (Stop, Exception):
        return ""
    finally:
        set_rng_state(state)
    return "".join(events)


def advance(tokens: Tokens, guider: Any, sampler: Any, goal: Goal, show: StepText) -> Tokens:
    """Tokens after as many more steps as the goal asks for; the given tokens stay valid, also on errors."""
    trajectory = resume(tokens, fingerprint(sampler))
    if trajectory.done or goal.steps == 0:
        return tokens
    _check_channels(tokens, guider)
    if trajectory.origin.mask is not None:
        conds = getattr(guider, "original_conds", {})
        check_mask(guider.model_patcher, (entry for entries in conds.values() for entry in entries))
    before, total = trajectory.position
    preview = latent_preview.prepare_callback(guider.model_patcher, goal.ahead(trajectory))
    stepper = StepSampler(sampler, trajectory, goal)
    shapes = shapes_of(tokens)
    with strip(guider.model_patcher.model.latent_format) as moving:

        def callback(index: int, denoised: Tensor, x: Tensor, in_call: int) -> None:
            preview(index, denoised, x, in_call)
            made = before + index + 1
            moving(made - 1, denoised, x, max(total, made))
            show(f"step {made} of {max(total, made)}")

        made = _sampled(guider, stepper, trajectory, shapes, callback)
    latents = from_core(made).detach().to(comfy.model_management.intermediate_device())
    after = stepper.trajectory
    denoised = latents
    if stepper.denoised is not None:
        denoised = guider.model_patcher.model.process_latent_out(kept(stepper.denoised)).to(latents.device)
    reached = with_latents(tokens, latents)
    after = replace(after, values=shown(reached).clone(), denoised=denoised, made_by=made_by(guider))
    return replace(reached, trajectory=after)


def _sampled(
    guider: Any, stepper: StepSampler, trajectory: Trajectory, shapes: Sequence[tuple[int, ...]], callback: Any
) -> Any:
    """Core's run of a guider over the whole schedule, from what this trajectory began with."""
    origin = trajectory.origin
    set_rng_state(origin.rng)
    return guider.sample(
        for_core(origin.noise.clone(), shapes),
        for_core(origin.latents.clone(), shapes),
        stepper,
        trajectory.schedule.sigmas.clone(),
        denoise_mask=for_core(origin.mask, shapes),
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=origin.seed,
    )


def _check_channels(tokens: Tokens, guider: Any) -> None:
    model = guider.model_patcher
    with_sound = picture_channels(model)
    if bool(tokens.streams) != (with_sound is not None):
        raise ValueError(
            "these tokens carry sound and this model makes pictures alone: leave the sound out with core's Separate AV "
            "Latent, or connect LTX-2 or MiniMax-H3"
            if tokens.streams
            else "this model makes picture and sound and these tokens hold a picture alone: give Empty Video or "
            "Animate Image the model, or VAE Encode Video the audio_vae"
        )
    wanted = with_sound or model.get_model_object("latent_format").latent_channels
    channels = tokens.channels
    if channels != wanted:
        raise ValueError(
            f"this model works on latents of {wanted} channels, these tokens have {channels}: "
            "use the empty latent or VAE Encode node that belongs to the model"
        )
