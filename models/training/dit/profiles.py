"""How long a memory the average of the weights should have, decided after the run.

EDM2 (arXiv 2312.02696, section 3): a run keeps snapshots of two averages with power-function profiles; the average of
any other profile is nearly a sum of them, whose factors are the least-squares fit of the profiles (algorithm 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...building import check_finite
from ...checkpoints import Checkpoint, load_checkpoint
from ...files import read_json, read_tensors, write_tensors
from ...headers import check_number
from ...lora import pairs_of
from ...remedies import cut
from ..optim.layout import Layout
from ..optim.optimiser import EMA

GAMMAS = (6.94, 16.97)  # the run's result, and a shorter memory: relative widths 0.10 and 0.05
BINS = 20_000  # a longer run is divided into so many stretches
MOST_SNAPSHOTS, MOST_STEPS = 100_000, 10**9
ANEW = "train it anew"
NAME = "name the --out of a `train dit`"
WORST = 0.1  # relative error of a profile that counts as reproduced


class Profiles(EMA):
    """Averages of several profiles side by side; `weights` are those of the first, the run's result."""

    def __init__(
        self, weights: dict[str, Tensor], gammas: Sequence[float] = GAMMAS, layout: Layout | None = None
    ) -> None:
        super().__init__(weights, gammas[0], layout)
        self.others = [EMA(weights, gamma, layout) for gamma in gammas[1:]]

    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Take in the weights after `step` >= 1 steps."""
        super().update(weights, step)
        for other in self.others:
            other.update(weights, step)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names and averages of all profiles, for a run's checkpoint."""
        yield from super().items()
        for other in self.others:
            yield from ((f"{other.gamma}:{name}", weight) for name, weight in other.items())


class Snapshot(NamedTuple):
    """An average as it was after `step` steps."""

    step: int
    gamma: float
    path: Path


def snapshot_steps(total: int, count: int) -> list[int]:
    """After which steps snapshots are taken: evenly over the run, the last at its end."""
    return sorted({round(total * (i + 1) / count) for i in range(count)} - {0})


def save_snapshots(folder: Path, averages: Profiles, step: int, *, writes: bool = True) -> None:
    """Store the averages after `step` steps in bf16. All workers must call it; one of them `writes`."""
    for average in (averages, *averages.others):
        tensors = {name: weight.bfloat16() for name, weight in average.whole(keep=writes).items()}
        if writes:
            write_tensors(snapshot_file(folder, step, average.gamma), tensors, {"step": str(step)})


def snapshot_file(folder: Path, step: int, gamma: float) -> Path:
    """Where a snapshot lies in a run folder."""
    return folder / "averages" / f"{step:08d}-{gamma}.safetensors"


def gamma_of(width: float) -> float:
    """Exponent of the profile t^gamma whose relative width (standard deviation / run length) is given (eq. 126).

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). ValueError outside of what a power function can have.
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"a relative width of {width} is no power function's: --sigma-rel lies between 0 and 0.288")
    roots = np.roots([1.0, 7.0, 16.0 - width**-2, 12.0 - width**-2])
    return float(roots.real.max())


def profile(step: int, gamma: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each stretch of the run between `edges` counts in the average after `step` steps; sums to 1."""
    reached: NDArray[np.float64] = np.minimum(edges / step, 1.0) ** (gamma + 1)
    return np.diff(reached)


def fit(kept: Sequence[tuple[int, float]], step: int, gamma: float) -> tuple[NDArray[np.float64], float]:
    """Factors that make the averages `kept` (step, gamma) the one asked for, and the relative error of its profile."""
    longest = max(step, *(taken for taken, _ in kept))
    bins = min(longest, BINS)
    edges = np.linspace(0, longest, bins + 1)
    basis = np.stack([profile(*one, edges) for one in kept], axis=1)
    target = profile(step, gamma, edges)
    firm = 1e3 * np.linalg.norm(target)  # the factors sum to one: weights that stood still must stay what they are
    rows, goal = np.vstack([basis, np.full((1, len(kept)), firm)]), np.append(target, firm)
    factors = np.linalg.lstsq(rows, goal, rcond=None)[0]
    return factors, float(np.linalg.norm(basis @ factors - target) / np.linalg.norm(target))


def snapshots_of(run: Path) -> list[Snapshot]:
    """The snapshots of a run folder. ValueError when it has none."""
    try:
        config = read_json(run / "config.json", dict, advice=NAME)
        count = int(check_number("snapshots", config.get("snapshots", 0), 0, MOST_SNAPSHOTS))
        total = int(check_number("steps", config.get("steps"), 1, MOST_STEPS))
    except ValueError as error:
        raise ValueError(f"{run} is no run folder ({cut(str(error))}): {NAME}") from error
    steps = snapshot_steps(total, count) if count else []
    named = [Snapshot(step, gamma, snapshot_file(run, step, gamma)) for step in steps for gamma in GAMMAS]
    found = [snapshot for snapshot in named if snapshot.path.exists()]
    if not found:
        raise ValueError(f"{run} holds no snapshots of averages: train with --snapshots 8, and at least to the first")
    return found


def reconstruct(run: Path, width: float, step: int = 0) -> tuple[Checkpoint, float]:
    """The DiT of a run with the average of relative width `width` after `step` steps (0: the last snapshot's).

    Of a LoRA's run it is the adapters alone, without config. Returns it with the relative error of the profile.
    ValueError when the snapshots do not reach that far.
    """
    kept = snapshots_of(run)
    step = step or kept[-1].step
    used = [snapshot for snapshot in kept if snapshot.step <= step]
    if not used or step > kept[-1].step:
        raise ValueError(f"--step {step} is outside of the snapshots, from {kept[0].step} to {kept[-1].step}")
    factors, error = fit([(one.step, one.gamma) for one in used], step, gamma_of(width))
    if error > WORST:
        raise ValueError(
            f"{len(used)} snapshots reproduce a relative width of {width} only to {error:.0%}: take one between 0.05 "
            "and 0.2, a --step at a snapshot, or train with more --snapshots"
        )
    state: dict[str, Tensor] = {}
    for factor, snapshot in zip(factors, used, strict=True):
        for name, weight in read_tensors(snapshot.path)[0].items():
            part = weight.float() * float(factor)
            if part.shape != state.get(name, part).shape:
                raise ValueError(f"the snapshots of {run} differ in {cut(name, 60)}: {ANEW}")
            state[name] = state[name] + part if name in state else part
    check_finite(state, f"average of {run}")
    made = load_checkpoint(run / "dit.safetensors")
    meta = made.meta | {"steps": step, "sigma_rel": width}
    if pairs_of(state):  # a LoRA's run: the adapters alone
        return Checkpoint(dit_state=state, meta=meta), error
    if made.dit_config is None or any(
        name not in made.dit_state or made.dit_state[name].shape != weight.shape for name, weight in state.items()
    ):
        raise ValueError(f"the snapshots of {run} do not belong to its dit.safetensors: {ANEW}")
    return Checkpoint(made.dit_config, {**made.dit_state, **state}, meta=meta), error
