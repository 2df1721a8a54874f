"""The command line: `minidiff train`, `sample`, `evaluate` and the rest; one file a command, or a family of them.

Of several processes that `mpiexec` started, rank 0 alone prints.

Exit status: 0 done, 1 it could not be done, 2 invalid usage, 130 interrupted.
"""

from __future__ import annotations

import sys

import numpy as np

from minidiff import __version__
from minidiff.cli import edit, evaluate, info, report, sample, train, weights
from minidiff.cli.arguments import Parser, UsageError
from minidiff.cli.output import one_line
from minidiff.cli.streams import outputs
from minidiff.communicator import SINGLE, Communicator
from minidiff.datasets import UnknownDataset
from minidiff.runs import mpi


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    rank, _ = mpi.launched()
    with outputs(silent=rank > 0) as out:
        status = _run(arguments)
        out.flush()
        if rank == 0 and out.error and not isinstance(out.error, BrokenPipeError) and sys.__stdout__:
            return _complain(f"standard output: {out.error.strerror or out.error}", status or 1)
        return status


def _run(arguments: list[str] | None) -> int:
    comm = SINGLE
    try:
        options = parser().parse_args(arguments)
        if mpi.launched()[1] > 1 and not options.parallel:
            raise UsageError(f"{options.command.__name__} takes one process: leave out mpiexec")
        comm = mpi.world()
        # Results that are not finite are refused with a line of their own; NumPy's warnings would come before it.
        with np.errstate(all="ignore"):
            status: int = options.command(options)
        return status
    except (UsageError, UnknownDataset) as error:
        return _complain(error, 2, comm)
    except (ValueError, OSError, MemoryError, ArithmeticError, RuntimeError) as error:
        return _complain(error, 1, comm)
    except KeyboardInterrupt:
        return _complain("interrupted", 130, comm)


def parser() -> Parser:
    """The parser of all commands."""
    top = Parser("minidiff", description="Denoising diffusion from scratch.")
    top.add_argument("--version", action="version", version=f"minidiff {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for module in (train, sample, evaluate, report, edit, weights, info):
        module.add_commands(commands)
    return top


def _complain(error: Exception | str, status: int, comm: Communicator = SINGLE) -> int:
    comm.fail(one_line(f"minidiff: {_text(error)}"), status)
    return status


def _text(error: Exception | str) -> str:
    """The message of an error; of one from the operating system the file and the reason, without its number."""
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename
        return f"{path}: {error.strerror}" if path else error.strerror
    if isinstance(error, OverflowError):
        return f"a number is too large to compute with: {error}"
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
