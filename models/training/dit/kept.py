"""What a run of the DiT leaves: averaged weights in files, and what these say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...checkpoints import Checkpoint, save_checkpoint
from ...clips.cache import LatentCache
from ...lora import merged
from ...transformer.dit import DiT
from ..optim.optimiser import EMA
from ..run.folder import Run
from .alignment import without
from .profiles import Profiles, save_snapshots, snapshot_steps
from .settings import Drawing, Keeping


def keep(run: Run, model: DiT, average: EMA, settings: Keeping, step: int, *, check: Callable[[], object]) -> None:
    """Store what a run leaves along its way: snapshots of its averages, and an early model to guide with.

    check: complains, before something is written, of weights that are not worth it.
    """
    if isinstance(average, Profiles) and step in snapshot_steps(settings.steps, settings.snapshots):
        check()
        save_snapshots(run.file(""), average, step, writes=run.writes)
    if settings.early and step == max(1, round(settings.early * settings.steps)):
        check()
        weights = result(model, average, keep=run.writes)
        if run.writes:
            save_dit(run, "early.safetensors", averaged(model, weights), step)


def save_dit(run: Run, name: str, model: DiT, step: int) -> None:
    """Write a DiT for use."""
    meta = {"steps": step, **run.meta}
    checkpoint = Checkpoint(dit_config=model.config, dit_state=model.state_dict(), meta=meta)
    save_checkpoint(run.file(name), checkpoint)


def described(settings: Drawing, cache: LatentCache, init: Checkpoint | None) -> dict[str, Any]:
    """What a checkpoint says of its training: clip sizes of this run and the one before, the names of classes, and with
    which settings the model before was best run."""
    now = [name for name, _ in settings.mix] or list(cache.buckets)
    sizes = sorted({*now, *(init.meta.get("trained_on", []) if init else [])})
    names = settings.classes or (init.class_names if init else ())
    before = {name: init.meta[name] for name in ("shift", "recommended") if name in init.meta} if init else {}
    return {"trained_on": sizes} | ({"classes": list(names)} if names else {}) | before


def result(model: DiT, average: EMA, *, keep: bool = True) -> dict[str, Tensor]:
    """The averaged weights and those that are not trained, fp32, whole; {} unless `keep`. All workers must call it."""
    layout = average.layout
    frozen = ((name, layout.local(p.detach()).float()) for name, p in model.named_parameters() if not p.requires_grad)
    return {name: weight for name, weight in layout.whole(frozen) if keep} | average.whole(keep=keep)


def averaged(model: DiT, weights: dict[str, Tensor]) -> DiT:
    """A copy of the model, fp32, with these weights; adapters are added in."""
    copy = DiT(model.config)
    copy.load_state_dict(merged(without(weights)))
    return copy.eval()
