"""The command line of minidiff, with a fault in one of the processes: `mpi_program.py FAULT RANK ARGUMENT…`."""

import errno
import os
import signal
import sys
import time

from minidiff import cli, files
from minidiff.runs import mpi
from minidiff.training import Trainer, trainer

STEP = 3  # before which the fault occurs


def set_nan(trainer):
    def add(*arguments):
        trainer.parameters.gradients[0] = float("nan")
        return (0.0, arguments[0].t)

    trainer._add_gradient, before = lambda batch: before(batch), trainer._add_gradient
    loss = trainer._loss
    trainer._loss = lambda batch, rng: (loss(batch, rng)[0] * float("nan"), loss(batch, rng)[1])


def raise_error(trainer):
    raise ValueError("a fault")


def drift(trainer):
    trainer.parameters.values[0] += 1e-3


def fill_disk(trainer):
    def replace(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    files.replace = replace


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
    mpi.WARN_AFTER, mpi.GIVE_UP_AFTER, trainer.CHECK_EVERY = 1.0, 3.0, 5
    advance = Trainer.advance

    def faulty(trainer):
        if trainer.step == STEP and trainer.comm.rank == int(rank):
            FAULTS[fault](trainer)
        return advance(trainer)

    if fault in FAULTS:
        Trainer.advance = faulty
    return cli.main(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
