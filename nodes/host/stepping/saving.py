"""A run as a file: everything that Tokens in the middle of one know, in safetensors.

The header holds the structure as JSON, the version of the pack that wrote it, and a checksum over both and all
tensors, so that a damaged file is never taken for a run. Records stay in the precision that the sampler saw: rounded
ones would not lead back to the same x. Our own solvers have no records, only their state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....models import VERSION
from ....models.files import parsed_json, read_tensors, write_tensors
from ....models.media.sound import LAYOUTS, Sound
from ....models.nested import Apart, digest_of, together
from ....models.patches import Grid, Tokens
from ....models.remedies import cut
from ....models.solvers import Evaluation, SolverState
from ... import sockets
from ..vae.sound import Carried
from .hidden_state import KEYFRAME_STATE, HiddenState
from .randomness import RngState
from .state import MadeBy, Origin, Past, Pause, Record, Schedule, Trajectory
from .streams import latents_of, shown

ENTRY, CHECKSUM, FORMAT = "spacetime_run", "sha256", 1


class Heard(NamedTuple):
    """A sound that travels with the latents, as numbers: samples (channels, n)."""

    samples: Tensor
    rate: int
    fps: float
    length: int


OWN = (Tokens, Grid, Trajectory, Origin, Schedule, Past, Record, Pause, MadeBy, HiddenState, SolverState, Evaluation)
KINDS: dict[str, type] = {kind.__name__: kind for kind in (*OWN, Heard)}


def save(tokens: Tokens, path: Path) -> None:
    """Write tokens with their run, whole or not at all. ValueError for entries of the latent that no file can hold."""
    extra = dict(tokens.extra)
    if isinstance(extra.get(sockets.SOUND), Carried):
        extra[sockets.SOUND] = _heard(extra[sockets.SOUND])
    apart = Apart(replace(tokens, extra=extra), KINDS)
    text = json.dumps({"format": FORMAT, "pack": VERSION, "tokens": apart.tree}, allow_nan=False)
    write_tensors(path, apart.tensors, {ENTRY: text, CHECKSUM: _checksum(text, apart.tensors)})


def load(path: Path) -> tuple[Tokens, str]:
    """Tokens in the middle of a run, and the version of the pack that saved them. ValueError in one sentence."""
    tensors, header = read_tensors(path)
    if ENTRY not in header:
        raise ValueError(f"{path.name} holds no run: choose a file that Save Run has written")
    text = header[ENTRY]
    if header.get(CHECKSUM) != _checksum(text, tensors):
        raise ValueError(f"{path.name} is damaged, its checksum does not fit: copy or save it again")
    advice = "save it again"
    held = parsed_json(text, path.name, dict, advice=advice)
    if held.get("format") != FORMAT:
        raise ValueError(
            f"{path.name} has format {cut(held.get('format'), 20)}, this version of the pack reads {FORMAT}: update it"
        )
    try:
        tokens = together(_with_streams(held.get("tokens")), tensors, KINDS)
        _check(tokens)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{path.name} holds no run that can be continued, {cut(str(error))}: {advice}") from error
    heard = tokens.extra.get(sockets.SOUND)
    if isinstance(heard, Heard):
        tokens = replace(tokens, extra={**tokens.extra, sockets.SOUND: _carried(heard)})
    return tokens, str(held.get("pack"))


def _with_streams(tree: Any) -> Any:
    """Runs from before there were streams beside a picture hold none."""
    if isinstance(tree, dict) and isinstance(tree.get("Tokens"), dict):
        return {"Tokens": {"streams": {"tuple": []}, **tree["Tokens"]}}
    return tree


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(errors="surrogatepass"))
        digest.update(digest_of(tensor.contiguous()))
    return digest.hexdigest()


def _heard(carried: Carried) -> Heard:
    sound = carried.sound
    pieces = list(sound.pieces(sound.rate, LAYOUTS.get(sound.channels, "stereo")))
    samples = np.concatenate(pieces, axis=1) if pieces else np.zeros((sound.channels, 0), np.float32)
    return Heard(torch.from_numpy(np.ascontiguousarray(samples)), sound.rate, carried.fps, carried.length)


def _carried(heard: Heard) -> Carried:
    return Carried(Sound.of_samples(heard.samples.numpy(), heard.rate), heard.fps, heard.length)


def _check(tokens: Any) -> None:
    """ValueError unless the parts of a run that was read fit each other, so that no step can fail over them."""
    run = tokens.trajectory if isinstance(tokens, Tokens) else None
    if not isinstance(tokens, Tokens) or not isinstance(run, Trajectory):
        raise ValueError("no tokens with a run")
    latents = latents_of(tokens)
    _alike("the latents", latents.shape, [run.origin.latents, run.origin.noise, run.origin.edited, run.origin.same])
    for one in (tokens, *tokens.streams):
        _alike("the patches", one.values.shape, [one.values, one.reference])
    _alike("the patches", shown(tokens).shape, [run.values])
    batch, _, *sizes = latents.shape
    mask = run.origin.mask
    if mask is not None and (mask.shape[1:] != (1, *sizes) or mask.shape[0] not in (1, batch)):
        raise ValueError(f"a mask of shape {tuple(mask.shape)}")
    inside = list(_in_model_units(run))
    if inside:
        _alike("x", inside[0].shape, inside)
    for sigmas in (run.schedule.sigmas, run.schedule.whole):
        if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((torch.isfinite(sigmas) & (sigmas >= 0)).all()):
            raise ValueError("its noise levels are no schedule")
    _check_counts(run)
    _check_random(run)
    hidden = run.pause.hidden
    for frame in [] if hidden is None else hidden.keyframes:
        if set(frame) != {"place", *KEYFRAME_STATE} or not isinstance(frame["place"], int | None):
            raise ValueError("the state of a keyframe is none")


def _alike(what: str, shape: torch.Size, tensors: Sequence[Tensor | None]) -> None:
    for one in tensors:
        if one is not None and one.shape != shape:
            raise ValueError(f"shapes {tuple(one.shape)} and {tuple(shape)} of {what} disagree")


def _in_model_units(run: Trajectory) -> Iterator[Tensor]:
    """All tensors that a sampler calculates with."""
    past, state = run.past, run.past.solver
    found = [run.pause.x, run.origin.start, *past.draws.values()]
    for record in past.records:
        found += [record.denoised, *(value for _, seen in record.cfg for value in seen.values())]
    if state is not None:
        found += [state.x, state.denoised, state.anchor, *(one.denoised for one in state.history)]
    for one in found:
        if one is not None:
            if not isinstance(one, Tensor) or not one.is_floating_point():
                raise ValueError("a state is no tensor of numbers")
            yield one


def _check_counts(run: Trajectory) -> None:
    past, steps = run.past, len(run.schedule.sigmas) - 1
    places = [place for one in past.records for place, _ in one.cfg]
    if min(past.step, past.callbacks, run.schedule.steps_before, *places) < 0 or set(past.pattern or "") - {"B", "C"}:
        raise ValueError("its steps are no counts")
    if past.solver is not None and (past.solver.step != past.step or past.step > steps or past.records):
        raise ValueError("the solver's state is that of another step")
    if not 0 <= run.origin.seed < 2**64:
        raise ValueError(f"the seed {cut(run.origin.seed, 30)}")


def _check_random(run: Trajectory) -> None:
    hidden, solver = run.pause.hidden, run.past.solver
    states = [run.origin.rng, *(record.rng for record in run.past.records), None if hidden is None else hidden.rng]
    if solver is not None and solver.rng is not None:
        _check_generator((solver.rng,))
    for state in states:
        if state is not None:
            _check_generator(state)


def _check_generator(state: RngState) -> None:
    problem = any(one.dtype != torch.uint8 or one.numel() != 16 for one in state[1:])  # CUDA: seed and offset
    try:
        torch.Generator().set_state(state[0])
    except (RuntimeError, TypeError, IndexError):
        problem = True
    if problem:
        raise ValueError("a state of a random generator is none")
