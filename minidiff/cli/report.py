"""`minidiff report`."""

from __future__ import annotations

import argparse

from minidiff.cli.arguments import Subparsers, add_command
from minidiff.runs import Run
from minidiff.runs import report as run_report


def add_commands(commands: Subparsers) -> None:
    """Add it to the parser."""
    add_command(commands, report, run=True)


def report(options: argparse.Namespace) -> int:
    """Write report.html, a run on one page, from the files in its folder."""
    print(f"wrote {run_report.write(Run.open(options.run))}")
    return 0
