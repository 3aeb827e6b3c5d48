"""Settings of a DiT run."""

from __future__ import annotations

from dataclasses import dataclass

from ...transformer.config import PRESETS
from ..run.ranges import check_settings


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Which classes there are."""

    classes: tuple[str, ...] = ()  # names of the classes that clips are labelled with


@dataclass(frozen=True, kw_only=True)
class Drawing(Labelled):
    """What the batch of a step is drawn by."""

    tokens: int = 5184  # patches per step: the batch size follows from the clip size
    mix: tuple[tuple[str, float], ...] = ()  # (clip size, share of the steps); () = all buckets alike
    images: float = 0.1  # share of steps on single frames
    balance: float = 0.0  # 1: clips of all classes alike often, however many there are of each; 0: all clips alike
    packing: bool = False  # clips of all sizes in one sequence per step, instead of one size per step
    dropout: float = 0.1  # share of clips without text and class
    region: float = 0.1  # share of steps with known regions in space
    alignment: float = 0.0  # weight of what an early block is to tell of what is known of the patches
    route: float = 0.0  # share of the patches that go past the blocks route_start to route_end


@dataclass(frozen=True, kw_only=True)
class Beginning(Labelled):
    """What the model is at the start."""

    preset: str = "toy"
    text: bool = True  # whether the model reads captions
    lora: int = 0  # rank of low-rank adapters to train instead of the model; 0 = the model itself
    lora_layers: str = "attn|mlp"  # regular expression that the names of the adapted linear layers match


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How long a run is, and what it keeps along its way."""

    steps: int = 4000
    minutes: float = 0.0  # after which the run ends, its learning rate lowered in time; 0 = when all steps are done
    save_every: int = 250
    snapshots: int = 8  # over the run, of two averages with short and long memory, for `train ema`; 0 = none
    early: float = 0.1  # share of the run after which early.safetensors is kept, a weak model for guidance; 0 = none


@dataclass(frozen=True, kw_only=True)
class DiTTraining(Keeping, Beginning, Drawing):
    """Settings of a run; all of them are written to its config.json. Each part of a run asks for its own alone."""

    accumulate: int = 1  # the batch of a step is computed in so many parts, one after the other
    checkpointing: bool = False  # compute blocks again in the backward pass instead of keeping what they made
    muon: bool = True  # Muon for the matrices inside blocks; False: AdamW for all. Adapters always have AdamW
    learning_rate: float = 1e-3
    clip_deviations: float = 0.0  # above the mean of late, at which gradients are cut; 0 = at 1 only
    route_start: int = 2  # first of the blocks that patches go past
    route_end: int = -2  # the block where they come in again; below 0 as counted from the last one
    steadiness: float = 0.0  # weight of the squared change of the error from frame to frame
    seed: int = 0
    warmup: int = 100
    decay: float = 0.3
    dtype: str = "bfloat16"
    compile: bool = False

    def __post_init__(self) -> None:
        check_settings(self, PRESETS)
        if self.alignment and self.lora:
            raise ValueError("a LoRA changes a model that has learned already: leave out --alignment, or --lora")
        if self.compile and self.packing:
            raise ValueError("packed steps have ever new shapes, which cannot be compiled: leave out --compile or pack")


# what a config.json means that was written before these settings existed
ASSUMED = {
    "packing": False,
    "accumulate": 1,
    "muon": True,
    "lora": 0,
    "lora_layers": "attn|mlp",
    "classes": [],
    "text": True,
    "checkpointing": False,
    "snapshots": 0,
    "early": 0.0,
    "clip_deviations": 0.0,
    "steadiness": 0.0,
    "minutes": 0.0,
    "alignment": 0.0,
    "balance": 0.0,
    "route": 0.0,
    "route_start": 2,
    "route_end": -2,
}
