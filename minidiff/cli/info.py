"""`minidiff info` and `minidiff data`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from textwrap import indent

import numpy as np

from minidiff import datasets, nn
from minidiff.cli.arguments import Subparsers, add_command
from minidiff.options import given
from minidiff.runs import Run


def add_commands(commands: Subparsers) -> None:
    """Add both to the parser."""
    parser = add_command(commands, info, run=True)
    parser.add_argument("--verify", action="store_true", help="check every byte of the checkpoint")
    add_command(commands, data)


def info(options: argparse.Namespace) -> int:
    """Print what a run is and how far it has come."""
    run = Run.open(options.run)
    settings, rows = run.settings, run.metrics()
    print(f"{run.folder}: {run.step} steps on {settings.data or 'no data'}, samples of shape {run.shape}")
    print(f"network   {run.net.count_parameters():,} parameters  {_line(settings.net)}")
    if isinstance(run.net, nn.UNet):
        print(indent(nn.diagram(run.net), " " * 10))
    print(f"schedule  {_line(asdict(settings.schedule))}")
    print(f"training  {_line(asdict(settings.training))}  seed {settings.seed}")
    if loading := given(settings.loading):
        print(f"read with {_line(loading)}")
    if run.facts.left_out:
        print(f"left out  {run.facts.left_out}")
    if run.class_names:
        print(f"classes   {', '.join(run.class_names)}")
    if rows:
        losses = [row["loss"] for row in rows[-10:]]
        print(f"loss      {np.mean(losses):.4f}, mean of the last {len(losses)} lines of metrics")
    if options.verify:
        run.verify()
        print("checkpoint verified: all of it is as it was written")
    return 0


def data(options: argparse.Namespace) -> int:
    """List the built-in data sets."""
    for name, what in datasets.NAMES.items():
        print(f"{name:14} {what}")
    print(
        "or a path: a folder or zip of images, IDX files as MNIST's (gz or not) or their folder, CIFAR-10 or -100, "
        ".npy, .npz"
    )
    return 0


def _line(settings: Mapping[str, object]) -> str:
    return "  ".join(f"{name} {value!s:.40}" for name, value in settings.items() if value is not None)
