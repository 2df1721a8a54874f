"""All that decides what a run learns, as it is stored in its checkpoint and in settings.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidiff import files
from minidiff.datasets.loading_options import LoadingOptions
from minidiff.options import Options, facts, from_facts, setting
from minidiff.runs.folders import SETTINGS
from minidiff.training import ScheduleOptions, TrainingOptions


@dataclass(frozen=True)
class Settings(Options):
    """The settings of a run, whose initial weights, order of the data, times and noise all follow from `seed`.

    data: a name of `datasets.NAMES`, a path, or the name of a `Dataset` made in Python; None for an imported network
    that was given none. net: a description as `nn.build` takes it. A network with classes is conditioned on the labels
    of the data. loading: how the data is read. clip_x0: whether samplers clip x̂₀ of images to their range.
    """

    data: str | None
    net: Mapping[str, Any]
    schedule: ScheduleOptions
    training: TrainingOptions
    seed: int = setting(0, "seed of everything random", at_least=0)
    loading: LoadingOptions = LoadingOptions()
    clip_x0: bool = True

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Settings:
        """The settings whose `options.facts` this is. Raises TypeError for names that there are not."""
        nested = {
            "schedule": from_facts(ScheduleOptions, facts["schedule"]),
            "training": from_facts(TrainingOptions, facts["training"]),
            "loading": from_facts(LoadingOptions, facts.get("loading", {})),
        }
        return cls(**{**facts, **nested})


def write_settings(folder: Path, settings: Settings) -> None:
    """Write settings.json, for people."""
    text = json.dumps(facts(settings), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files.replace(folder / SETTINGS, text.encode())
