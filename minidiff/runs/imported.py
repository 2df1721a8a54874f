"""A run of a network that was trained elsewhere, and a run as a folder for others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from minidiff import nn, weights
from minidiff.datasets import Units, cache, load
from minidiff.options import OptionError
from minidiff.runs import checkpoints, folders
from minidiff.runs.data_facts import DataFacts, source_of
from minidiff.runs.run import Run, trainer_of
from minidiff.runs.settings import Settings, write_settings
from minidiff.training import ScheduleOptions, TrainingOptions
from minidiff.training.objectives import Objective

BYTES = Units(127.5, 127.5)  # of images whose own units are not known: −1…1 are 0…255
LR = 2e-4  # by default: that of the DDPM paper for CIFAR-10


def create(
    published: weights.Published,
    folder: str | Path,
    data: str | Path | None = None,
    seed: int = 0,
    **options: Any,
) -> Run:
    """Make a run of published weights, which are its EMA weights too; the optimiser starts anew.

    folder: new or empty. data: what to train on further and to measure with; without it the run makes samples, and
    takes data when it is needed. options: fields of `TrainingOptions` and, where no scheduler is described, of
    `ScheduleOptions`.

    Raises FileExistsError where the folder holds anything, OptionError for options that do not fit, ValueError for data
    of another shape, and what `datasets.load` raises.
    """
    folder, net = Path(folder), published.net
    schedule, training, clip_x0 = _options(published.scheduler, options)
    settings = Settings(None, nn.describe(net), schedule, training, seed, clip_x0=clip_x0)
    of_data = DataFacts(BYTES, net.shape, (), "")
    with folders.new(folder) as (hidden, _):
        if data is None:
            parameters = {name: p.data for name, p in net.named_parameters().items()}
            state: checkpoints.Sections = {"ema": ({}, parameters), "adam": ({"step": 0}, {})}
        else:
            settings = replace(settings, data=source_of(data))
            dataset = load(data, seed, cache_folder=hidden)
            of_data.check(dataset, folder)
            cache.keep(hidden, dataset.decoded)
            of_data, state = DataFacts.of(dataset), trainer_of(settings, dataset, net).state()
        Run(hidden, settings, of_data, net, 0).write(state)
        write_settings(hidden, settings)
    return Run(folder, settings, of_data, net, 0)


def export(run: Run, folder: str | Path) -> None:
    """Write a run's EMA weights and its noise schedule as a folder of diffusers.

    Raises FileExistsError where the folder holds anything, and ValueError for what diffusers does not have.
    """
    if not isinstance(run.net, nn.UNet):
        raise ValueError(
            f"{run.folder}: only a U-Net can be exported, and its network is {run.settings.net['kind']}"
        )
    options = run.settings.schedule
    betas = replace(options, zero_terminal_snr=False).build().beta[1:].tolist()
    noise = weights.scheduler.configuration(
        asdict(options),
        betas,
        run.settings.training.prediction,
        run.settings.clip_x0,
        run.net.learned_variance,
    )
    weights.write(folder, run.net, noise)


def _options(
    scheduler: weights.Scheduler | None, options: Mapping[str, Any]
) -> tuple[ScheduleOptions, TrainingOptions, bool]:
    """The settings of a scheduler, and those that are given; and whether x̂₀ is clipped."""
    names = {about.name for about in fields(ScheduleOptions)}
    given = {name: value for name, value in options.items() if name in names}
    training = {"lr": LR} | {name: value for name, value in options.items() if name not in names}
    if scheduler is not None:
        if twice := given.keys() | training.keys() & {"prediction"}:
            raise OptionError(f"{', '.join(sorted(twice))}: already in the configuration of the scheduler")
        given, training = scheduler.schedule, training | {"prediction": scheduler.prediction}
    schedule, settings = ScheduleOptions(**given), TrainingOptions(**training)
    Objective(schedule.build(), settings.prediction, settings.weighting)  # refuses what cannot be learned
    return schedule, settings, scheduler is None or scheduler.clip_x0
