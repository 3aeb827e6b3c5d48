"""Settings of a distillation."""

from __future__ import annotations

from dataclasses import dataclass

from ...recommended import CARD, Recommended
from ..dit.settings import DiTTraining


@dataclass(frozen=True, kw_only=True)
class Distillation(DiTTraining):
    """Settings of a run; all of them are written to its config.json. What is not here is as in `train dit`."""

    steps: int = 1000
    tokens: int = 2592  # patches of the clips of a step; each clip is learned from at every level of the student
    dropout: float = 0.05  # share of clips without text and class: the empty prompt still works
    warmup: int = 50
    save_every: int = 200
    early: float = 0.0  # a student is not guided
    lora_layers: str = "."  # all: without the first and last layers adapters learn several times more slowly
    student_steps: int = 4
    substeps: int = 4  # steps of the teacher's solver for each of the student's
    cfg: float = CARD.cfg  # strength of the teacher's guidance, which the student has in its weights
    shift: float = CARD.shift  # of the noise schedule of both

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing:
            raise ValueError("a teacher makes its videos in rows of one size: leave out --packing")
        if self.alignment:
            raise ValueError("a student learns from its teacher, not from the clips' features: leave out --alignment")
        if self.route:
            raise ValueError("a student begins with what its teacher's blocks do to every patch: leave out --route")

    @property
    def recommended(self) -> Recommended:
        """How the student is to be run."""
        return Recommended(cfg=1.0, shift=self.shift, steps=self.student_steps, solver="euler")
