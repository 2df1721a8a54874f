"""The command line of minidiff, with a fault in one of the processes: `mpi_program.py FAULT RANK ARGUMENT…`."""

import errno
import os
import signal
import sys
import time

import numpy as np

from minidiff import cli, files
from minidiff.datasets import from_raw
from minidiff.runs import mpi, run
from minidiff.training import Trainer
from minidiff.training import trainer as training

STEP = 3  # before which the fault occurs


def set_nan(trainer):
    loss = trainer._loss
    trainer._loss = lambda batch, rng: loss(batch._replace(x0=batch.x0 * np.float32("nan")), rng)


def raise_error(trainer):
    raise ValueError("a fault")


def drift(trainer):
    trainer.parameters.values[0] += 1e-3


def fill_disk(trainer):
    def fail(path, *content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    files.replace = files.replacing = fail


FAULTS = {
    "raise": raise_error,
    "hang": lambda trainer: time.sleep(1000),
    "leave": lambda trainer: sys.exit(0),
    "kill": lambda trainer: os.kill(os.getpid(), signal.SIGKILL),
    "interrupt": lambda trainer: signal.raise_signal(signal.SIGINT),
    "terminate": lambda trainer: signal.raise_signal(signal.SIGTERM),
    "nan": set_nan,
    "drift": drift,
    "full": fill_disk,
}


def main(fault, rank, *arguments):
    """Run the command line; the fault is in the process of this rank."""
    mpi.WARN_AFTER, mpi.GIVE_UP_AFTER, training.CHECK_EVERY = 1.0, 3.0, 5
    advance, is_faulty = Trainer.advance, mpi.launched()[0] == int(rank)

    def faulty(trainer):
        if trainer.step == STEP:
            FAULTS[fault](trainer)
        return advance(trainer)

    if is_faulty and fault in FAULTS:
        Trainer.advance = faulty
    if is_faulty and fault == "other data":
        run.load = lambda *arguments: from_raw("points", np.random.default_rng(1).normal(size=(60, 2)))
    return cli.main(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
