"""Single steps against one run of core's SamplerCustomAdvanced: equal to the bit, for every sampler, model and mask.

Models are tiny and random, but of the real architectures and loaded by core's own loaders. `deterministic` says whether
core, run twice, repeats itself; `equal` whether single steps, all steps in one call, and core agree in every bit of
both outputs; `saved` the same for two steps at a time, with the run written to a file and read again between them;
`explored` for the second of two seeds that Explore Seeds began, finished alone.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..in_process import load_host
from . import tiny_models

STEPS = 5
SEED = 5
FEW = ("euler", "dpmpp_2m_sde", "uni_pc", "spacetime unipc")  # for families: one of each way to keep history
Outputs = tuple[Tensor, Tensor]


def rows() -> Iterable[dict[str, Any]]:
    """One row per sampler, model and mask."""
    if not load_host():
        raise SystemExit("ComfyUI has not been fetched yet: run `python3 run.py setup`")
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)  # small tensors: threads would only wait for each other
    for name, masked in product(tiny_models.NAMES, (False, True)):
        guider, latent = cfg_guider(tiny_models.model(name), name), tiny_models.latent(name, masked=masked)
        for label, sampler in samplers().items():
            yield {"sampler": label, "model": name, "mask": masked} | judge(guider, sampler, latent)
    yield from family_rows()


def family_rows() -> Iterable[dict[str, Any]]:
    """A few samplers on every family of video models that the host has; those with sound too are two streams in one."""
    from ...nodes.host.model.masks import mask_reading
    from . import families

    for name in (one for one in families.FAMILIES if not families.lacking(one)):
        reading, flow = mask_reading(families.family_model(name)), name not in families.UNLIKE_FLOW
        for masked, label in product((False, True) if reading.fits else (False,), FEW):
            if flow or not label.startswith("spacetime"):
                given = families.guider(name), samplers()[label], families.latent(name, masked=masked)
                yield {"sampler": label, "model": name, "mask": masked} | judge(*given)


def judge(guider: Any, sampler: Any, latent: dict[str, Any]) -> dict[str, bool]:
    """Whether core repeats itself, and whether it and our ways of running agree."""
    sigmas = schedule(guider)
    reference = core_run(guider, sampler, sigmas, latent)
    next_seed = core_run(guider, sampler, sigmas, latent, SEED + 1)
    return {
        "deterministic": same(core_run(guider, sampler, sigmas, latent), reference),
        "equal": all(same(stepped(guider, sampler, sigmas, latent, steps), reference) for steps in (0, 1)),
        "saved": same(stepped(guider, sampler, sigmas, latent, 2, saved_and_loaded), reference),
        "explored": same(explored(guider, sampler, sigmas, latent), next_seed),
    }


def samplers() -> dict[str, Any]:
    """All of core's samplers and all of our solvers, as SAMPLER objects."""
    import comfy.samplers

    from ...models.solvers import SOLVERS, Solver
    from ...nodes.host.sampling import solver_sampler

    core = {name: comfy.samplers.sampler_object(name) for name in comfy.samplers.SAMPLER_NAMES}
    return core | {f"spacetime {name}": solver_sampler(Solver(name=name, order=3)) for name in SOLVERS}


def sampler(name: str) -> Any:
    """A new SAMPLER object of this name."""
    return samplers()[name]


def cfg_guider(model: Any, name: str, cfg: float = 3.0) -> Any:
    """A core CFG GUIDER with random prompts that fit the model."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_models.conditioning(name, 1), tiny_models.conditioning(name, 2))
    guider.set_cfg(cfg)
    return guider


def schedule(guider: Any, steps: int = STEPS) -> Tensor:
    """Core's plain schedule for the guider's model."""
    import comfy.samplers

    model_sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas: Tensor = comfy.samplers.calculate_sigmas(model_sampling, "simple", steps)
    return sigmas


def core_run(guider: Any, sampler: Any, sigmas: Tensor, latent: dict[str, Any], seed: int = SEED) -> Outputs:
    """Both outputs of core's SamplerCustomAdvanced."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    # uni_pc writes into the schedule that it is given
    output = SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider, sampler, sigmas.clone(), latent)
    first, second = output.args
    return first["samples"], second["samples"]


def stepped(
    guider: Any,
    sampler: Any,
    sigmas: Tensor,
    latent: dict[str, Any],
    steps: int = 1,
    after: Callable[[Any], Any] = lambda tokens: tokens,
    seed: int = SEED,
) -> Outputs:
    """The same through our nodes' functions, `steps` at a time (0: all); `after` sees the tokens after each call."""
    tokens = noised(latent, sigmas, seed)
    while not tokens.trajectory.done:
        tokens = after(step(tokens, guider, sampler, steps))
    return laid(tokens), tokens.trajectory.denoised


def saved_and_loaded(tokens: Any) -> Any:
    """Save Run and Load Run."""
    from ...nodes.host.stepping import saving

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        saving.save(tokens, path)
        return saving.load(path)[0]


def explored(guider: Any, sampler: Any, sigmas: Tensor, latent: dict[str, Any]) -> Outputs:
    """The second of two seeds of Explore Seeds, finished alone."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from ...nodes.host.stepping import exploring

    noise = Noise_RandomNoise(SEED)
    runs = exploring.explored(patches(latent), noise, sigmas.clone(), guider, sampler, 2, 2, lambda _: None)
    tokens = step(runs[1][1], guider, sampler, 0)
    return laid(tokens), tokens.trajectory.denoised


def patches(latent: dict[str, Any]) -> Any:
    """Patchify."""
    from ...nodes.tokens import cut

    return cut(latent, (1, 2, 2) if latent["samples"].shape[-1] % 2 == 0 else (1, 1, 1))


def noised(latent: dict[str, Any], sigmas: Tensor, seed: int = SEED) -> Any:
    """Patchify and Forward Diffusion."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from ...nodes.host.stepping.trajectory import begin

    return begin(patches(latent), Noise_RandomNoise(seed), sigmas.clone())


def step(tokens: Any, guider: Any, sampler: Any, steps: int = 1) -> Any:
    """DiT Denoise Step."""
    from ...nodes.host.stepping.goal import steps_goal
    from ...nodes.host.stepping.stepper import advance

    return advance(tokens, guider, sampler, steps_goal(steps), lambda _text: None)


def same(one: Outputs, other: Outputs) -> bool:
    """Every bit of both outputs, of all their streams."""
    from ...nodes.host.stepping.streams import from_core

    return all(torch.equal(from_core(a), from_core(b)) for a, b in zip(one, other, strict=True))


def laid(tokens: Any) -> Tensor:
    """Unpatchify; picture and sound as one tensor."""
    from ...nodes.host.stepping.streams import latents_of

    return latents_of(tokens)
