"""A rolling window through any GUIDER whose model takes a noise level per frame."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_management import intermediate_device
from comfy.model_sampling import CONST
from torch import Tensor

from ...models.flow import Denoiser
from ...models.geometry import Frames
from ...models.rolling import CONTRAST, FRESH, Rolling, Window, opened, seed_of, shares_of, stream
from ...models.solvers import Solver
from ...models.tasks.prompts import Key
from ...models.transfer import sent
from .far import with_prompt
from .latent import made, samples_of
from .messages import check_interrupted
from .model.hosted_dit import RUN, RunCache
from .model.levels import is_ours
from .model.masks import mask_reading
from .model.model import WHOLE_FRAMES, texts_stay
from .model.prompts import MASK, placed_prompts

ENTRY = "spacetime_stream"  # entry of a LATENT: the window that a stream goes on from


@dataclass(frozen=True)
class Script:
    """What a stream shows when. begin: the latent at which its times begin. No keys: the guider's own prompt."""

    keys: Sequence[Key]
    clip: Any
    fade: float
    fps: float
    time: Frames
    begin: int


def check_streamable(guider: Any) -> None:
    """ValueError, which says why, for a model or settings that a window of many noise levels cannot be made with."""
    patcher = guider.model_patcher
    name = type(patcher.model).__name__
    if not mask_reading(patcher).levels or not isinstance(patcher.model.model_sampling, CONST):
        raise ValueError(
            f"{name} takes one noise level for the whole video, and a stream has another for each latent: use Extend "
            "Far, or a flow model with a level for each frame, such as this pack's, LTX-Video or Wan 2.2 5B"
        )
    if "denoise_mask_function" in patcher.model_options:
        raise ValueError("Change Levels gives levels another meaning, and a stream sets them itself: leave it out")
    settings = getattr(guider, "guidance", None)
    if settings is not None and (not settings.always or settings.mode == "cfg_zero_star"):
        raise ValueError(
            "each call of a stream has latents at all noise levels, so guidance cannot begin or end at one, nor "
            "cfg_zero_star leave out first steps: guide the whole run (0 to 1 percent) in another mode"
        )


def latents_of(
    guider: Any, noise: Any, rolling: Rolling, clip: Tensor, script: Script, held: Window | None = None
) -> Iterator[tuple[Tensor, Window]]:
    """Latent after latent (B, C, 1, H, W) after a clip (B, C, T, H, W), which may have none; for ever.

    Latents are as LATENT holds them, windows in the model's units; both stay on the model's device. held: a window to
    go on from.
    """
    inner, device = guider.model_patcher.model, guider.model_patcher.load_device

    def fresh(number: int) -> Tensor:
        own = copy.copy(noise)
        own.seed = seed_of(rolling.seed, FRESH, number)
        drawn: Tensor = own.generate_noise(made(single))
        return drawn

    single = clip.new_zeros(*clip.shape[:2], 1, *clip.shape[3:])
    placed = sent(clip, device)
    known = inner.process_latent_in(placed) if clip.shape[2] else placed
    window = opened(rolling, known, fresh) if held is None else held.on(device)
    speaking = _Speaking(guider, script)
    for latent, after in stream(rolling, window, speaking.denoiser, fresh):
        yield inner.process_latent_out(latent), after


class _Speaking:
    """A guider with the prompts of a window's times. Each text is encoded once."""

    def __init__(self, guider: Any, script: Script) -> None:
        self.guider, self.script = _sharing(guider), script
        self._clip = _Remembering(script.clip)
        self._last: tuple[object, Any] = (None, _of_whole_frames(self.guider))

    def denoiser(self, window: Window) -> Denoiser:
        """What models.rolling.stream asks for."""
        return _denoiser(self._prompted(window))

    def _prompted(self, window: Window) -> Any:
        script = self.script
        if not script.keys:
            return self._last[1]
        shares = shares_of(window, script.keys, script.time, script.fps, begin=script.begin, fade=script.fade)
        key = tuple((text, *share.tolist()) for text, share in shares.items())
        if key != self._last[0]:
            shape = (window.length, *window.latents.shape[3:])
            placed = {text: share[:, None, None].expand(shape) for text, share in shares.items()}
            positive, _ = placed_prompts(self.guider.model_patcher, self._clip, placed, None, contrast=CONTRAST)
            there = [[text, _masked_there(more, window.latents.device)] for text, more in positive]
            self._last = key, _of_whole_frames(with_prompt(self.guider, there))
        return self._last[1]


def _sharing(guider: Any) -> Any:
    """A copy of a GUIDER of our model whose runs, which are single calls of it, prepare a text once; others as is."""
    if not is_ours(guider.model_patcher):
        return guider
    sharing, options = copy.copy(guider), guider.model_options
    cache = RunCache(texts_stay=texts_stay(options))
    sharing.model_options = {**options, "transformer_options": {**options["transformer_options"], RUN: cache}}
    return sharing


def _of_whole_frames(guider: Any) -> Any:
    """A copy of a GUIDER whose conditionings say that all of a frame has one level, so that no call looks for it."""
    told = copy.copy(guider)
    told.original_conds = {
        name: [{**entry, WHOLE_FRAMES: True} for entry in entries] for name, entries in guider.original_conds.items()
    }
    return told


def _masked_there(more: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The settings of a prompt with its mask on a device, where each call would bring it."""
    return {**more, **({MASK: sent(more[MASK], device)} if MASK in more else {})}


class _Remembering:
    """A text encoder that keeps what it has encoded last: the same texts are asked for turn after turn."""

    def __init__(self, clip: Any) -> None:
        self._clip = clip
        self._known: dict[str, Any] = {}

    def tokenize(self, text: str) -> str:
        """The text itself, which is what is remembered."""
        return text

    def encode_from_tokens_scheduled(self, text: str) -> Any:
        """Its CONDITIONING."""
        if text not in self._known:
            kept = dict(list(self._known.items())[-3:])
            self._known = {**kept, text: self._clip.encode_from_tokens_scheduled(self._clip.tokenize(text))}
        return self._known[text]


class _Call:
    """A core SAMPLER that asks the model once, at the noise that it is given, and keeps the answer in its units."""

    answer: Tensor

    @torch.no_grad()  # as core's own samplers
    def sample(
        self, model: Any, sigmas: Tensor, extra_args: Mapping[str, Any], _callback: Any, noise: Tensor, *_: Any
    ) -> Tensor:
        """Core's call of a sampler."""
        self.answer = model(noise, sigmas[:1].expand(noise.shape[0]), **extra_args)
        return self.answer


def _denoiser(guider: Any) -> Denoiser:
    """A GUIDER as a denoiser (x, levels (1, T)) -> denoised: one call at sigma 1 with the levels as its mask."""
    ours = is_ours(guider.model_patcher)
    whole = sent(torch.tensor([1.0, 0.0]), guider.model_patcher.load_device)

    def denoise(x: Tensor, levels: Tensor) -> Tensor:
        check_interrupted()
        mask = levels[0].to(x).reshape(1, 1, -1, 1, 1).expand(x.shape[0], 1, *x.shape[2:])
        call = _Call()
        guider.sample(x, torch.zeros_like(x), call, whole, denoise_mask=mask, disable_pbar=True, seed=0)
        answer = call.answer.to(x)
        # core takes the whole velocity away, as sigma is 1; ours has scaled it by the levels already
        return answer if ours else x - mask * (x - answer)

    return denoise


def carrying(latents: Iterable[Tensor], window: Window | None, entries: Mapping[str, Any]) -> dict[str, Any]:
    """A LATENT of the last latents (B, C, 1, H, W) of a stream, from which it can go on exactly."""
    place = intermediate_device()
    samples = torch.cat(list(latents), dim=2).to(place)
    return made(samples, entries={**entries, ENTRY: (samples, None if window is None else window.on(place))})


def held_window(latent: Mapping[str, Any], rolling: Rolling) -> Window | None:
    """The window that a LATENT of a stream carries; None where its latents or the way to roll are others by now."""
    samples, window = latent.get(ENTRY, (None, None))
    fits = window is not None and window.length == window.known + rolling.open and window.known <= rolling.context
    return window if fits and torch.equal(samples, samples_of(latent)) else None


def solver_of(sampler: Any) -> Solver:
    """The solver of a SAMPLER: one of ours, or core's euler. ValueError for others."""
    own: Solver | None = getattr(sampler, "spacetime_solver", None)
    if own is not None:
        return own
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "").removeprefix("sample_")
    if name != "euler":
        raise ValueError(
            f"a stream takes latents at many noise levels one step further, which {name or 'this sampler'} cannot: use "
            "Sampler with euler or euler_sde, or core's euler"
        )
    return Solver(name="euler")
