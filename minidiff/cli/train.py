"""`minidiff train` and `minidiff quickstart`."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from minidiff.cli.arguments import (
    Parser,
    Subparsers,
    UsageError,
    add_command,
    add_moved_data,
    add_settings,
    given_settings,
    path,
    positive,
    positive_or_0,
    source,
    whole,
)
from minidiff.cli.evaluate import evaluate_run
from minidiff.datasets import LoadingOptions
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.options import OptionError
from minidiff.runs import Interrupted, Run, Settings, pictures, presets
from minidiff.runs.folders import free_folder
from minidiff.training import NetworkOptions, ScheduleOptions, TrainingOptions
from minidiff.training.step_memory import in_words, step_memory

KINDS = NetworkOptions, ScheduleOptions, TrainingOptions, Settings, LoadingOptions


def add_commands(commands: Subparsers) -> None:
    """Add both to the parser."""
    quick = add_command(commands, quickstart)
    quick.add_argument("--out", type=path, metavar="RUN", help="the folder to make (runs/quickstart)")
    parser: Parser = add_command(commands, train, parallel=True)
    add = parser.add_argument
    add("data", nargs="?", metavar="DATA", type=source, help="a name that `minidiff data` lists, or a path")
    add(
        "--steps",
        type=whole,
        help=f"number of steps in all, also when resumed ({presets.STEPS} without --minutes)",
    )
    add("--minutes", type=positive, help="how long to train, from now; fractions are fine")
    add(
        "--preview",
        type=positive_or_0,
        default=1.0,
        metavar="MINUTES",
        help="time to the first preview (1); more follow at growing intervals; 0: none",
    )
    add("--out", type=path, metavar="RUN", help="the folder to make (runs/DATA)")
    add("--resume", type=path, metavar="RUN", help="resume this run instead")
    add_moved_data(parser, held_out=False)
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
        held_out = given.pop("held_out", None)
        given |= {name: value for name in ("data", "out") if (value := getattr(options, name)) is not None}
        if given:
            raise UsageError(
                f"train --resume keeps the run's own settings; leave out {', '.join(given)} "
                "(--steps and --minutes may be given)"
            )
        run = Run.resume(options.resume, options.moved_data, held_out)
    else:
        if options.data is None:
            raise UsageError("train: give the data to train on (`minidiff data` lists it), or --resume RUN")
        if options.moved_data is not None:
            raise UsageError(
                "train: --data is where the data of a resumed run is now; a new run takes DATA alone"
            )
        run = _create(options, given)
    print(f"{run.settings.data}: {run.net.count_parameters():,} parameters → {run.folder}")
    if left_out := run.data().left_out:
        print(f"left out: {left_out}")
    needed = step_memory(run.net, run.settings.training)
    print(f"a step with batch {run.settings.training.batch} takes about {in_words(needed)} of memory")
    remaining = run.schedule.alpha_bar[-1]
    if remaining > 0.01:
        print(
            f"note: ᾱ_T = {remaining:.2g}, so x_T is not pure noise, as sampling assumes; raise --T or --beta-end"
        )
    steps = options.steps
    if steps is None and options.minutes is None:
        steps = presets.STEPS
    if steps is not None and run.step >= steps:
        if run.comm.rank or not pictures.up_to_date(run):
            return _draw(run)
        print(f"nothing to do: {run.step} steps are made; --steps is the total")
        return 0
    return _train(run, steps, options.minutes, options.preview)


def _create(options: argparse.Namespace, given: dict[str, Any]) -> Run:
    """A new run; settings that do not fit are a UsageError."""
    try:
        return Run.create(options.out, data=options.data, **given)
    except OptionError as error:
        raise UsageError(f"train: {error}") from error


def _train(run: Run, steps: int | None, minutes: float | None, preview: float = 1.0) -> int:
    """Train, save, draw; on Ctrl-C finish the step, save, and print how to resume."""
    try:
        run.train(steps, minutes, preview=preview)
    except Interrupted:
        more = f"--steps {steps}" if steps is not None else f"--minutes {minutes:g}"
        print(f"stopped after step {run.step}, saved; resume with: {_resume_command(run)} {more}")
        return 130
    return _draw(run)


def _draw(run: Run) -> int:
    """Draw; where that is interrupted or fails, print how to draw again."""
    if run.comm.rank:
        return 0
    try:
        paths = run.draw()
    except (KeyboardInterrupt, OSError):
        print(f"saved, without all pictures; draw them with: {_resume_command(run)} --steps {run.step}")
        raise
    for picture in paths:
        print(f"wrote {picture}")
    return 0


def _resume_command(run: Run) -> str:
    return f"minidiff train --resume {shlex.quote(str(run.folder))}"
