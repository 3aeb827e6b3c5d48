"""A saved run with the guider and sampler that are connected now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ....models.patches import Tokens
from .fingerprint import fingerprint, made_by
from .state import Trajectory
from .trajectory import restart

STOP, ANEW, GO_ON = "stop", "new trajectory", "go on"
IF_CHANGED = (STOP, ANEW, GO_ON)


def changed(run: Trajectory, guider: Any, sampler: Any) -> list[str]:
    """What is another one than what the run's last steps were made by: "model", "guider", "sampler"."""
    if run.made_by is None:  # no step has been made yet
        return []
    now = made_by(guider)
    unlike = {
        "model": now.model != run.made_by.model,
        "guider": now.guider != run.made_by.guider,
        "sampler": run.past.sampler != fingerprint(sampler),
    }
    return [name for name, other in unlike.items() if other]


def resumed(tokens: Tokens, guider: Any, sampler: Any, if_changed: str) -> tuple[Tokens, str]:
    """The run to go on with, and what is to be said of it. ValueError when something else is connected and must not be.

    if_changed: "stop" refuses; "new trajectory" goes on from the present x without history; "go on" keeps the history,
    as a step with another model or prompt does in the middle of a run.
    """
    run: Trajectory = tokens.trajectory
    others = [] if run.done else changed(run, guider, sampler)
    if not others:
        return tokens, ""
    what = " and ".join(f"another {name}" for name in others)
    if if_changed == STOP:
        raise ValueError(
            f"{what} than this run was made by is connected, so it would not go on exactly: connect the same (also "
            f'prompt, cfg, LoRAs), or set if_changed to "{ANEW}" or "{GO_ON}"'
        )
    if if_changed == ANEW:
        return replace(tokens, trajectory=restart(run, f"{what} than it was saved with")), ""
    return tokens, f"goes on with {what} than it was saved with"
