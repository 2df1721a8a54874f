"""The command line: `minidiff train`, `sample`, `evaluate` and the rest; one file a command, or a family of them.

Exit status: 0 done, 1 it could not be done, 2 invalid usage, 130 interrupted.
"""

from __future__ import annotations

import io
import sys

from minidiff import __version__
from minidiff.cli import edit, evaluate, info, sample, train, weights
from minidiff.cli.arguments import Parser, UsageError
from minidiff.datasets import UnknownDataset
from minidiff.training import Diverged


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without β shows a question mark
    try:
        options = parser().parse_args(arguments)
        status: int = options.command(options)
        return status
    except (UsageError, UnknownDataset) as error:
        return _complain(error, 2)
    except (ValueError, OSError, MemoryError, Diverged) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def parser() -> Parser:
    """The parser of all commands."""
    top = Parser("minidiff", description="Denoising diffusion from scratch.")
    top.add_argument("--version", action="version", version=f"minidiff {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for module in (train, sample, evaluate, edit, weights, info):
        module.add_commands(commands)
    return top


def _complain(error: Exception | str, status: int) -> int:
    message = " ".join(_text(error).split())
    print(f"minidiff: {message}", file=sys.stderr)
    return status


def _text(error: Exception | str) -> str:
    """The message of an error; of one from the operating system the file and the reason, without its number."""
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename
        return f"{path}: {error.strerror}" if path else error.strerror
    return str(error) or "out of memory"
