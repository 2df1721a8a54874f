"""What a run keeps of the data that it was trained on: all that sampling needs, and by what the data is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidiff.datasets import Dataset, Units
from minidiff.datasets.samples import checksum_0_1


@dataclass(frozen=True)
class DataFacts:
    """units, class_names: those of the data. shape: of a sample. checksum: that of the `Dataset`; an integer is that of
    the samples alone, as version 0.1 has it.
    """

    units: Units
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    checksum: str | int

    @classmethod
    def of(cls, data: Dataset) -> DataFacts:
        """Those of a data set."""
        return cls(data.units, data.x.shape[1:], data.class_names, data.checksum)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON, which `from_json` reads."""
        return {
            "units": self.units.to_dict(),
            "shape": list(self.shape),
            "class_names": list(self.class_names),
            "checksum": self.checksum,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any], checksum_of_samples: str | int) -> DataFacts:
        """What `to_json` made, or version 0.1, which has no checksum here. Raises KeyError, TypeError or ValueError."""
        shape = tuple(facts["shape"])
        if len(shape) not in (1, 3) or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"expected the shape of a sample, (D,) or (H, W, C), got {str(shape)[:80]}")
        return cls(
            Units.from_dict(facts["units"]),
            shape,
            tuple(map(str, facts.get("class_names", ()))),
            facts.get("checksum", checksum_of_samples),
        )

    def check(self, data: Dataset, folder: Path) -> None:
        """Raises ValueError unless this is the data that the run in `folder` was trained on."""
        different = None
        if data.x.shape[1:] != self.shape or data.units != self.units:
            different = "shape or range"
        elif self.checksum != (checksum_0_1(data.x) if isinstance(self.checksum, int) else data.checksum):
            different = "samples, labels, classes or samples to hold out"
        if different:
            raise ValueError(f"{data.name} is not the data that {folder} was trained on: other {different}")
