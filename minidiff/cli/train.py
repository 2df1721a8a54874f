"""`minidiff train` and `minidiff quickstart`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from minidiff.cli.arguments import (
    Parser,
    Subparsers,
    UsageError,
    add_command,
    add_settings,
    given_settings,
    positive,
    whole,
)
from minidiff.cli.evaluate import evaluate_run
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.options import OptionError
from minidiff.runs import Interrupted, Run, Settings, presets
from minidiff.runs.run import free_folder
from minidiff.training import NetworkOptions, ScheduleOptions, TrainingOptions
from minidiff.training.step_memory import in_words, step_memory

KINDS = NetworkOptions, ScheduleOptions, TrainingOptions, Settings


def add_commands(commands: Subparsers) -> None:
    """Add both to the parser."""
    quick = add_command(commands, quickstart)
    quick.add_argument("--out", type=Path, metavar="RUN", help="the folder to make (runs/quickstart)")
    parser: Parser = add_command(commands, train)
    add = parser.add_argument
    add("data", nargs="?", metavar="DATA", help="a name that `minidiff data` lists, or a path")
    add("--steps", type=whole, help="number of steps in all, also when resumed")
    add("--minutes", type=positive, help="how long to train, from now; fractions are fine")
    add("--out", type=Path, metavar="RUN", help="the folder to make (runs/DATA)")
    add("--resume", type=Path, metavar="RUN", help="resume this run instead")
    add_settings(parser, *KINDS)


def quickstart(options: argparse.Namespace) -> int:
    """Train on the built-in digits, draw new ones, and measure how good they are."""
    folder = options.out or free_folder("quickstart")
    run = Run.create(folder, data="digits", **presets.QUICKSTART)
    print(f"{len(run.data().x)} handwritten digits → {folder}")
    status = _train(run, presets.QUICKSTART_STEPS, presets.QUICKSTART_MINUTES)
    return status or evaluate_run(run, Recipe(), Conditioning(), 1000, 0)


def train(options: argparse.Namespace) -> int:
    """Train a new run, or resume one."""
    given = given_settings(options, *KINDS)
    if options.resume:
        given |= {name: value for name in ("data", "out") if (value := getattr(options, name)) is not None}
        if given:
            raise UsageError(
                f"train --resume keeps the run's own settings; leave out {', '.join(given)} "
                "(--steps and --minutes may be given)"
            )
        run = Run.resume(options.resume)
    else:
        if options.data is None:
            raise UsageError("train: give the data to train on (`minidiff data` lists it), or --resume RUN")
        run = _create(options, given)
    print(f"{run.settings.data}: {run.net.count_parameters():,} parameters → {run.folder}")
    needed = step_memory(run.net, run.settings.training)
    print(f"a step with batch {run.settings.training.batch} takes about {in_words(needed)} of memory")
    remaining = run.schedule.alpha_bar[-1]
    if remaining > 0.01:
        print(
            f"note: ᾱ_T = {remaining:.2g}, so x_T is not pure noise, as sampling assumes; raise --T or --beta-end"
        )
    steps = options.steps
    if steps is None and options.minutes is None:
        steps = presets.steps_for(run.settings)
    if steps is not None and run.step >= steps:
        print(f"nothing to do: {run.step} steps are made; --steps is the total")
        return 0
    return _train(run, steps, options.minutes)


def _create(options: argparse.Namespace, given: dict[str, Any]) -> Run:
    """A new run; settings that do not fit are a UsageError."""
    try:
        return Run.create(options.out, data=options.data, **given)
    except OptionError as error:
        raise UsageError(f"train: {error}") from error


def _train(run: Run, steps: int | None, minutes: float | None) -> int:
    """Train, save, draw; on Ctrl-C finish the step, save, and print how to resume."""
    try:
        run.train(steps, minutes)
    except Interrupted:
        more = f"--steps {steps}" if steps is not None else f"--minutes {minutes:g}"
        print(
            f"stopped after step {run.step}, saved; "
            f"resume with: minidiff train --resume {shlex.quote(str(run.folder))} {more}"
        )
        return 130
    for path in run.draw():
        print(f"wrote {path}")
    return 0
