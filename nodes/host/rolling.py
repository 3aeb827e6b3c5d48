"""A rolling window through any GUIDER whose model takes a noise level per frame."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_sampling import CONST
from torch import Tensor

from ...models.flow import Denoiser
from ...models.geometry import Frames
from ...models.rolling import CONTRAST, FRESH, Rolling, Window, opened, seed_of, shares_of, stream
from ...models.solvers import Solver
from ...models.tasks.prompts import Key
from .far import with_prompt
from .latent import made, samples_of
from .messages import check_interrupted
from .model.levels import is_ours
from .model.masks import mask_reading
from .model.prompts import placed_prompts

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

    Latents are as LATENT holds them, windows in the model's units. held: a window to go on from.
    """
    inner = guider.model_patcher.model

    def fresh(number: int) -> Tensor:
        own = copy.copy(noise)
        own.seed = seed_of(rolling.seed, FRESH, number)
        drawn: Tensor = own.generate_noise(made(single))
        return drawn

    single = clip.new_zeros(*clip.shape[:2], 1, *clip.shape[3:])
    known = inner.process_latent_in(clip) if clip.shape[2] else clip
    window = held or opened(rolling, known, fresh)
    speaking = _Speaking(guider, script)
    for latent, after in stream(rolling, window, speaking.denoiser, fresh):
        yield inner.process_latent_out(latent), after


class _Speaking:
    """A guider with the prompts of a window's times. Each text is encoded once."""

    def __init__(self, guider: Any, script: Script) -> None:
        self.guider, self.script = guider, script
        self._clip = _Remembering(script.clip)
        self._last: tuple[object, Any] = (None, guider)

    def denoiser(self, window: Window) -> Denoiser:
        """What models.rolling.stream asks for."""
        return _denoiser(self._prompted(window))

    def _prompted(self, window: Window) -> Any:
        script = self.script
        if not script.keys:
            return self.guider
        shares = shares_of(window, script.keys, script.time, script.fps, begin=script.begin, fade=script.fade)
        key = tuple((text, *share.tolist()) for text, share in shares.items())
        if key != self._last[0]:
            shape = (window.length, *window.latents.shape[3:])
            placed = {text: share[:, None, None].expand(shape) for text, share in shares.items()}
            positive, _ = placed_prompts(self.guider.model_patcher, self._clip, placed, None, contrast=CONTRAST)
            self._last = key, with_prompt(self.guider, positive)
        return self._last[1]


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
    whole, ours = torch.tensor([1.0, 0.0]), is_ours(guider.model_patcher)

    def denoise(x: Tensor, levels: Tensor) -> Tensor:
        check_interrupted()
        mask = levels[0].to(x).reshape(1, 1, -1, 1, 1).expand(x.shape[0], 1, *x.shape[2:])
        call = _Call()
        guider.sample(x, torch.zeros_like(x), call, whole, denoise_mask=mask, disable_pbar=True, seed=0)
        answer = call.answer.to(x)
        # core takes the whole velocity away, as sigma is 1; ours has scaled it by the levels already
        return answer if ours else x - mask * (x - answer)

    return denoise


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
