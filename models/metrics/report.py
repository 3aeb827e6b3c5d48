"""Measurements as data: what a socket carries, a node prints, a plot draws and a JSON file stores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ..files import parsed_json
from ..remedies import cut

MEASURE = "connect a node that measures"


@dataclass(frozen=True)
class Measure:
    """One number with its unit ("dB", "s", "" for none) and, where there is one, the value per frame."""

    name: str
    value: float
    unit: str = ""
    per_frame: tuple[float, ...] = ()

    def text(self) -> str:
        """`PSNR 31.2 dB`."""
        return f"{self.name} {self.value:.4g}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Report:
    """What was measured, under a title, with remarks in plain words."""

    title: str
    measures: tuple[Measure, ...]
    remarks: tuple[str, ...] = ()

    def text(self) -> str:
        """Several lines for a person to read."""
        return "\n".join([self.title, *(measure.text() for measure in self.measures), *self.remarks])

    def to_json(self) -> str:
        """The same for a program."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of to_json. ValueError, in one sentence, for a text that is no report."""
        data = parsed_json(text, "the report", dict, advice=MEASURE, nan=True)
        try:
            measures = tuple(_measure(row) for row in data["measures"])
            return cls(str(data["title"]), measures, tuple(map(str, data["remarks"])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this text is no report ({cut(str(error), 60)}): {MEASURE}") from error

    def value(self, name: str) -> float:
        """A measure by name. ValueError when it is not in the report."""
        for measure in self.measures:
            if measure.name == name:
                return measure.value
        raise ValueError(f"this report has no {name!r}; it has {', '.join(m.name for m in self.measures)}")


def _measure(row: Mapping[str, object]) -> Measure:
    per_frame = row["per_frame"]
    if not isinstance(per_frame, Sequence) or isinstance(per_frame, str):
        raise TypeError("per_frame is no list")
    return Measure(str(row["name"]), float(str(row["value"])), str(row["unit"]), tuple(float(v) for v in per_frame))
