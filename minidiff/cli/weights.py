"""`minidiff import` and `minidiff export`."""

from __future__ import annotations

import argparse
import shlex

from minidiff import weights
from minidiff.cli.arguments import (
    Subparsers,
    UsageError,
    add_command,
    add_settings,
    given_settings,
    path,
    source,
)
from minidiff.datasets.image_files import ImageOptions
from minidiff.options import OptionError
from minidiff.runs import Run, imported
from minidiff.runs.folders import free_folder
from minidiff.training import ScheduleOptions, TrainingOptions

KINDS = ScheduleOptions, TrainingOptions


def add_commands(commands: Subparsers) -> None:
    """Add both to the parser."""
    parser = add_command(commands, import_weights, name="import")
    add = parser.add_argument
    add(
        "source",
        type=path,
        metavar="SOURCE",
        help="a folder of diffusers, or a file of weights in Ho's naming",
    )
    add("--out", type=path, metavar="RUN", help="the folder to make (runs/SOURCE)")
    add(
        "--size",
        type=_size,
        help="pixels of the images, as 64 or 48x32, width × height (those of the configuration)",
    )
    add(
        "--data",
        type=source,
        metavar="DATA",
        help="what to train on further: a name that `minidiff data` lists, or a path",
    )
    add_settings(parser, *KINDS)
    parser = add_command(commands, export, run=True)
    parser.add_argument("--to", type=path, required=True, metavar="FOLDER", help="the folder to make")


def import_weights(options: argparse.Namespace) -> int:
    """Make a run of published weights: a folder of diffusers, or a PyTorch checkpoint."""
    published = weights.read(options.source, options.size)
    folder = options.out or free_folder(options.source.resolve().stem)
    try:
        run = imported.create(published, folder, options.data, **given_settings(options, *KINDS))
    except OptionError as error:
        raise UsageError(f"import: {error}") from error
    print(f"{options.source}: {run.net.count_parameters():,} parameters → {run.folder}")
    if scheduler := published.scheduler:
        print(
            f"sample as its scheduler does: minidiff sample {shlex.quote(str(run.folder))} --sampler ddpm "
            f"--variance {scheduler.variance} --spacing {scheduler.spacing}"
        )
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a run's network as a folder of diffusers, for DDPMPipeline.from_pretrained."""
    run = Run.open(options.run)
    imported.export(run, options.to)
    print(f"wrote {options.to}: {run.net.count_parameters():,} parameters")
    return 0


def _size(text: str) -> tuple[int, int]:
    """Height and width, of what `minidiff train --size` takes."""
    try:
        sides = ImageOptions(size=text).width_and_height()
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("size: ")) from None
    assert sides is not None
    return sides[::-1]
