"""Processes that train a small run, to be killed; forked, so that each costs a fraction of a second.

This process itself must not run a kernel: their threads would be missing in its children.
"""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minidiff import cli, plots
from minidiff.runs import metrics
from minidiff.runs import run as run_module

plots.figure(1, 1)  # Matplotlib, imported once for all children
STEPS = 6  # a full line of metrics, and two steps of the next
OPTIONS = ["--T", "4", "--beta-end", "0.9", "--width", "8", "--batch", "8"]


def prepare(folder: Path) -> Path:
    """Make the data, and let every step be followed by a checkpoint; returns the data's path."""
    metrics.LOG_EVERY = 4
    run_module.SAVE_EVERY, run_module.SAVE_FRACTION = -1.0, math.inf
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.savez(folder / "images.npz", images=images)
    return folder / "images.npz"


def creating(data: Path, run: Path, steps: int = STEPS) -> list[str]:
    """The arguments of a command that makes a run."""
    return ["train", str(data), "--steps", str(steps), *OPTIONS, "--out", str(run)]


def resuming(run: Path, steps: int = STEPS) -> list[str]:
    """The arguments of a command that resumes it."""
    return ["train", "--resume", str(run), "--steps", str(steps)]


def start(arguments: list[str], output: Path, first: Callable[[], object] = lambda: None) -> int:
    """Begin a command in a process of its own, which calls `first` before; returns its id.

    output: the file for what it prints.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        first()
        status = cli.main(arguments)
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Wait for a process; its exit status, negative for the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def call(arguments: list[str], output: Path, first: Callable[[], object] = lambda: None) -> int:
    """`start` and `ended`."""
    return ended(start(arguments, output, first))
