"""What a run keeps of its data: all that sampling needs, where it is loaded again, and by what it is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minidiff.datasets import NAMES, Dataset, LoadingOptions, Units, UnknownDataset, cache, load
from minidiff.datasets.samples import checksum_0_1
from minidiff.options import OptionError
from minidiff.runs.settings import Settings


@dataclass(frozen=True)
class DataFacts:
    """units, class_names: those of the data. shape: of a sample. checksum: that of the `Dataset`; an integer is that of
    the samples alone, as version 0.1 has it; "" where the data is not known, of a network that was imported without it.
    left_out: of the source, in words.
    """

    units: Units
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    checksum: str | int
    left_out: str = ""

    @classmethod
    def of(cls, data: Dataset) -> DataFacts:
        """Those of a data set."""
        return cls(data.units, data.x.shape[1:], data.class_names, data.checksum, data.left_out)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON, which `from_json` reads."""
        return {
            "units": self.units.to_dict(),
            "shape": list(self.shape),
            "class_names": list(self.class_names),
            "checksum": self.checksum,
            "left_out": self.left_out,
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
            str(facts.get("left_out", "")),
        )

    def check(self, data: Dataset, folder: Path) -> None:
        """Raises ValueError unless this is the data that the run in `folder` was trained on, or may be."""
        if self.checksum == "":
            if data.x.shape[1:] != self.shape:
                raise ValueError(
                    f"{data.name}: expected images {self.shape}, as the network has them, got {data.x.shape[1:]}"
                )
            return
        different = None
        if data.x.shape[1:] != self.shape or data.units != self.units:
            different = "shape or range"
        elif self.checksum != (checksum_0_1(data.x) if isinstance(self.checksum, int) else data.checksum):
            different = "samples, labels, classes or samples to hold out"
        if different:
            raise ValueError(f"{data.name} is not the data that {folder} was trained on: other {different}")


def loading_options(data: str | Path | Dataset, options: Mapping[str, Any]) -> LoadingOptions:
    """The options of loading, with paths that stay right in another folder."""
    loading = LoadingOptions(**options)
    if isinstance(data, Dataset) and loading != LoadingOptions():
        raise OptionError(f"{', '.join(options)}: expected a path of data with these options, got a Dataset")
    return loading if loading.held_out is None else replace(loading, held_out=_absolute(loading.held_out))


def source_of(data: str | Path | Dataset) -> str:
    """The name of a data set, or the path of data, by which settings have it."""
    if isinstance(data, Dataset):
        return data.name
    return str(data) if str(data) in NAMES else _absolute(data)


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().resolve())


def moved(
    settings: Settings, data: str | Path | Dataset | None = None, held_out: str | Path | None = None
) -> Settings:
    """The settings with the paths at which the data, and what is held out, are now; None: where they were.

    Raises OptionError for a path of what is held out beside a `Dataset`.
    """
    if data is not None:
        settings = replace(settings, data=source_of(data))
    if held_out is not None:
        path = loading_options(data or "", {"held_out": str(held_out)}).held_out
        settings = replace(settings, loading=replace(settings.loading, held_out=path))
    return settings


def load_again(
    settings: Settings,
    facts: DataFacts,
    folder: Path,
    data: str | Path | Dataset | None = None,
    keep: bool = True,
) -> Dataset:
    """The data of the run in `folder`, or a `Dataset` in its place, if it is the same; else ValueError.

    keep: write decoded images into the folder.
    """
    dataset = data if isinstance(data, Dataset) else _load(settings, folder)
    facts.check(dataset, folder)
    if keep:
        cache.keep(folder, dataset.decoded)
    return dataset


def _load(settings: Settings, folder: Path) -> Dataset:
    if settings.data is None:
        raise ValueError(
            "the network was imported without data: give some with --data PATH; edits take images with --from too"
        )
    try:
        return load(settings.data, settings.seed, settings.loading, folder)
    except UnknownDataset as error:
        raise ValueError(
            f"{settings.data} was made in Python and cannot be loaded again: give it to Run.resume(folder, data=…)"
        ) from error
