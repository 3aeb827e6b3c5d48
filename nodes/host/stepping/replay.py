"""The guider as a sampler sees it during a stepwise run: past calls are replayed, new ones evaluated, then it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....models.transfer import sent
from .goal import ALL_STEPS, Goal
from .hidden_state import HiddenState
from .randomness import rng_state, set_rng_state
from .state import Past, Pause, Record, Trajectory

Callback = Callable[[int, Tensor, Tensor, int], None]


class Stop(BaseException):
    """Ends the sampler at a call that is not wanted. Not an Exception, so that no sampler swallows it."""


class Diverged(BaseException):
    """The replay does not lead to the recorded state: sampler or model changed in a way that the past depends on."""


class Watcher:
    """Stands for the guider before a core sampler.

    callback is core's, for previews: it hears of new steps only, counted within this call. interrupted() raises when
    the user wants to stop. After Stop, `x` is where the sampler stopped and stopped() the trajectory there.
    """

    def __init__(
        self,
        guider: Any,
        trajectory: Trajectory,
        goal: Goal,
        model_options: dict[str, Any],
        callback: Callback | None,
        interrupted: Callable[[], None],
    ) -> None:
        self._guider = guider
        self.trajectory = trajectory
        self.goal = goal
        self.own_options = model_options
        self.callback = callback
        self.interrupted = interrupted
        self.base_functions = {id(f) for f in model_options.get("sampler_post_cfg_function", [])}
        self.records = list(trajectory.past.records)
        self.events = ""
        self.callbacks = 0
        starts = trajectory.past.step_starts
        self.foreseen = bool(starts)
        after = trajectory.past.step + goal.steps
        self.stop_at = starts[after] if after < len(starts) else ALL_STEPS
        self.starts = frozenset(starts)
        self.x: Tensor = trajectory.origin.noise
        self.sigma = trajectory.sigma
        self.denoised: Tensor | None = None
        self.hidden: HiddenState | None = None
        self.replayed: list[tuple[Tensor, Tensor]] = []  # noise levels asked for in the replay, and those recorded
        self.unchecked: list[tuple[Tensor, Tensor]] = []  # noise levels, and whether the answers there were finite

    def __getattr__(self, name: str) -> Any:
        if name == "_guider":  # not set yet: do not look for it in itself
            raise AttributeError(name)
        return getattr(self._guider, name)

    @property
    def steps_made(self) -> int:
        """Callbacks that are new in this call."""
        return self.callbacks - self.trajectory.past.callbacks

    def on_callback(self, _index: int, denoised: Tensor, x: Tensor, _total: int) -> None:
        """The sampler tells about a step."""
        self.check_answers()
        self._note("B")
        self.callbacks += 1
        self.denoised = denoised
        made = self.steps_made
        if made > 0 and self.callback is not None:
            self.callback(made - 1, denoised, x, max(made, self.goal.ahead(self.trajectory)))

    def _note(self, event: str) -> None:
        expected = (self.trajectory.past.pattern or "")[len(self.events) : len(self.events) + 1]
        self.foreseen = self.foreseen and event == expected
        self.events += event

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        """The sampler asks for a prediction."""
        index, past = self.events.count("C"), len(self.trajectory.past.records)
        options = kwargs.get("model_options", self.own_options)
        if index < past:
            self._note("C")
            return self._replay(self.records[index], x, sigma, options)
        if index == past:
            self._arrive(x, options)
        elif self._is_enough(index, sigma):
            self.leave(x, sigma)
        self._note("C")
        return self._record(x, sigma, kwargs, options)

    def _is_enough(self, index: int, sigma: Tensor) -> bool:
        """Whether the goal is reached before this new call. A level on a GPU is read only where that depends on it."""
        if self.foreseen:
            return index == self.stop_at or (index in self.starts and self._is_low(sigma))
        begins = self.events.endswith("B") and self.steps_made > 0
        return self.steps_made >= self.goal.steps or (begins and self._is_low(sigma))

    def _is_low(self, sigma: Tensor) -> bool:
        return self.goal.until >= 0 and float(sigma.flatten()[0]) <= self.goal.until

    def _arrive(self, x: Tensor, options: dict[str, Any]) -> None:
        """The replay is over: be sure that it led where the last call had stopped, and restore what hides elsewhere."""
        before = self.trajectory.pause.x
        if before is not None and before.shape != x.shape:
            raise Diverged
        if not self._asked_the_same(*([] if before is None else [(x, before)])):
            raise Diverged
        self.restore(options, x.device)

    def _asked_the_same(self, *more: tuple[Tensor, Tensor]) -> bool:
        """Whether the replay asked for the noise levels that were recorded, and `more` found what was recorded.

        Compared at its end, all at once, where the found ones lie: a GPU is waited for once.
        """
        asked, self.replayed = self.replayed, []
        pairs = [*more, *([tuple(torch.cat([pair[i].flatten() for pair in asked]) for i in (0, 1))] if asked else [])]
        same = [(found == sent(recorded.to(found.dtype), found.device)).all() for found, recorded in pairs]
        return not same or bool(torch.stack(same).all())

    def restore(self, options: dict[str, Any], device: torch.device) -> None:
        """Put the host's hidden state back as it was at the last stop."""
        hidden = self.trajectory.pause.hidden
        if hidden is not None:
            hidden.put_back(self._guider, options, device)

    def leave(self, x: Tensor, sigma: Tensor) -> None:
        """End the sampler here."""
        self.check_answers()
        self.x, level = kept_together(x, sigma.flatten()[:1])
        self.sigma = float(level)
        self.hidden = HiddenState.take(self._guider, self.own_options)
        raise Stop

    def answer(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        """Ask the guider. Its answer must be finite, which is looked at once a step: a GPU has to be waited for."""
        denoised = self._ask(x, sigma, **kwargs)
        self._remember(sigma, denoised)
        return denoised

    def _ask(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        self.interrupted()
        denoised: Tensor = self._guider(x, sigma, **kwargs)
        return denoised

    def _remember(self, sigma: Tensor, denoised: Tensor) -> None:
        self.unchecked.append((sigma.flatten()[0], torch.isfinite(denoised).all()))

    def check_answers(self) -> None:
        """ValueError where an answer since the last look holds NaN or infinite values."""
        seen, self.unchecked = self.unchecked, []
        if not seen or bool(torch.stack([finite for _, finite in seen]).all()):
            return
        sigma = next(float(level) for level, finite in seen if not finite)
        raise ValueError(
            f"the model's answer at sigma {sigma:.4g} holds NaN or infinite values: try "
            "another weight dtype or a lower cfg, or look for a broken LoRA or checkpoint; earlier steps are kept"
        )

    def _record(self, x: Tensor, sigma: Tensor, kwargs: dict[str, Any], options: dict[str, Any]) -> Tensor:
        taken: list[tuple[int, dict[str, Any]]] = []
        before = rng_state()
        denoised = self._ask(x, sigma, **{**kwargs, "model_options": self._spied(options, taken)})
        after = rng_state()
        drew = len(before) != len(after) or not all(map(torch.equal, before, after))
        answer, level = kept_together(denoised, sigma)
        self._remember(level, answer)  # of the copy, for which nothing has to be waited for once more
        cfg = tuple(
            (place, {key: answer if value is denoised else kept(value) for key, value in seen.items()})
            for place, seen in taken
        )
        self.records.append(Record(denoised=answer, sigma=level, cfg=cfg, rng=after if drew else None))
        return denoised

    def _added(self, options: dict[str, Any]) -> list[Any]:
        """Post-cfg functions that the sampler itself hung in, as the cfg++ samplers do."""
        return [f for f in options.get("sampler_post_cfg_function", []) if id(f) not in self.base_functions]

    def _spied(self, options: dict[str, Any], taken: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        """The same options, with a note of the tensors that each added function reads."""
        added = self._added(options)
        if not added:
            return options

        def spy(function: Any) -> Any:
            def call(args: dict[str, Any]) -> Any:
                seen = _Reading(args)
                result = function(seen)
                read = {key: args.get(key) for key in seen.keys_read if isinstance(args.get(key), (Tensor, type(None)))}
                taken.append((added.index(function), read))
                return result

            return call

        functions = [f if id(f) in self.base_functions else spy(f) for f in options["sampler_post_cfg_function"]]
        return {**options, "sampler_post_cfg_function": functions}

    def _replay(self, record: Record, x: Tensor, sigma: Tensor, options: dict[str, Any]) -> Tensor:
        added = self._added(options)
        self.replayed.append((sigma, record.sigma))
        if record.sigma.shape != sigma.shape or any(place >= len(added) for place, _ in record.cfg):
            raise Diverged
        live = {"input": x, "sigma": sigma, "model": self._guider.inner_model, "model_options": options}
        for place, seen in record.cfg:
            added[place](live | {key: value if value is None else sent(value, x.device) for key, value in seen.items()})
        if record.rng is not None:
            set_rng_state(record.rng)
        answer = sent(record.denoised, x.device)  # without waiting for it: there is one for each past call
        return answer.clone() if answer is record.denoised else answer

    def stopped(self) -> Trajectory:
        """The trajectory at the call where the sampler was stopped."""
        past = self.trajectory.past
        starts, calls = past.step_starts, self.events.count("C")
        after = replace(
            past,
            pattern=past.pattern if self.foreseen else "",
            records=tuple(self.records),
            callbacks=self.callbacks,
            step=starts.index(calls) if self.foreseen and calls in starts else past.step + self.steps_made,
        )
        return replace(self.trajectory, past=after, pause=Pause(sigma=self.sigma, x=self.x, hidden=self.hidden))

    def finished(self) -> Trajectory:
        """The trajectory after the sampler's return: nothing is left to replay."""
        self.check_answers()
        if not self._asked_the_same():
            raise Diverged
        past = self.trajectory.past
        known = len(past.step_starts) if self.foreseen else 0
        after = Past(
            sampler=past.sampler,
            pattern=past.pattern,
            callbacks=self.callbacks,
            step=known or past.step + self.steps_made,
        )
        pause = Pause(sigma=float(self.trajectory.schedule.sigmas[-1]))
        return replace(self.trajectory, past=after, pause=pause, done=True)


class _Reading(dict[str, Any]):
    """A dict that remembers which keys were read."""

    def __init__(self, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.keys_read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As dict.get, noted too."""
        self.keys_read.add(key)
        return super().get(key, default)


def kept(value: Any) -> Any:
    """A copy in CPU memory that nothing else can write to."""
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def kept_together(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both as `kept` gives them, in one transfer where they come from a GPU."""
    if a.device.type == "cpu" or (a.device, a.dtype) != (b.device, b.dtype):
        return kept(a), kept(b)
    first, second = kept(torch.cat([a.flatten(), b.flatten()])).split([a.numel(), b.numel()])
    return first.view(a.shape), second.view(b.shape)
