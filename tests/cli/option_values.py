"""Every option of every command with values that it should refuse, or survive; generated from the parser itself."""

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minidiff import cli
from minidiff.cli.arguments import SAMPLER_OPTION
from minidiff.diffusion.samplers import SAMPLERS

VALUES = {
    "0": "0",
    "-1": "-1",
    "1e9": "1e9",
    "1000000000": "1000000000",
    "1e30": "1e30",
    "10^30": "1" + 30 * "0",
    "nan": "nan",
    "inf": "inf",
    "empty": "",
    "long": 5000 * "long",
    "escape": "a\x1b[31m\x1b]0;b\x07\r\nc",
    "not UTF-8": b"a\xff\xfe".decode("utf-8", "surrogateescape"),
}
QUICK = ["--T", "4", "--width", "8", "--batch", "8"]
PUBLISHED = str(Path(__file__).parents[1] / "weights" / "published" / "paper")
# What a command is given beside the option that is tried. DIGITS, POINTS, RUN, CLASSES, POINTS_RUN: data and runs.
BEGIN = {
    "quickstart": [["--out", "new"]],
    "train": [
        ["POINTS", "--steps", "2", *QUICK, "--out", "new"],
        ["DIGITS", "--steps", "2", *QUICK, "--out", "new"],
        ["--resume", "RUN", "--steps", "4"],
    ],
    "sample": [
        ["RUN", "--count", "4", "--steps", "2", "--out", "a.npz"],
        ["CLASSES", "--class", "3", "--count", "4", "--steps", "2", "--out", "a.png"],
        ["POINTS_RUN", "--count", "4", "--steps", "2", "--out", "a.gif"],
    ],
    "report": [["RUN"]],
    "evaluate": [
        ["POINTS_RUN", "--count", "8", "--steps", "2"],
        ["RUN", "--count", "8", "--steps", "2"],
        ["CLASSES", "--count", "8", "--compare", "ddim"],
    ],
    "invert": [["RUN", "--count", "2", "--steps", "2", "--out", "a.npz"]],
    "interpolate": [["RUN", "--count", "3", "--steps", "2", "--out", "a.png"]],
    "inpaint": [["RUN", "--count", "2", "--steps", "2", "--resample", "2", "--out", "a.png"]],
    "import": [[PUBLISHED, "--out", "new"]],
    "export": [["RUN", "--to", "new"]],
    "info": [["RUN"]],
    "data": [[]],
}


class Try(NamedTuple):
    """A command line, and in `option` and `value` what is tried of it."""

    option: str
    value: str
    arguments: list[str]


def tries() -> Iterator[Try]:
    """Every option and every argument of every command, with each of `VALUES`, in both ways to write it."""
    for command, begins in BEGIN.items():
        for action in options_of(command):
            for name, value in VALUES.items():
                for begin in begins:
                    for arguments in with_value(begin, action, value):
                        yield Try(f"{command} {name_of(action)}", name, [command, *arguments])


def options_of(command: str) -> list[argparse.Action]:
    """What the parser of a command takes."""
    commands = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return [action for action in commands.choices[command]._actions if action.dest != "help"]


def commands() -> list[str]:
    """The names of all commands."""
    return list(next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices)


def name_of(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else str(action.metavar)


def with_value(begin: list[str], action: argparse.Action, value: str) -> Iterator[list[str]]:
    """`begin` with a value for one of its options or arguments, as `--option=value` and as `--option value`."""
    if not action.option_strings:
        first = 0 if begin[:1] and not begin[0].startswith("-") else len(begin)
        yield [*begin[:first], value, *begin[first + 1 :]]
        return
    flag, rest = action.option_strings[0], list(begin)
    if flag in rest:
        del rest[rest.index(flag) : rest.index(flag) + 2]
    rest += owner_of(action.dest.removeprefix(SAMPLER_OPTION))
    yield [*rest, f"{flag}={value}"]
    yield [*rest, flag, *[value] * (action.nargs if isinstance(action.nargs, int) and action.nargs else 1)]


@functools.cache
def owner_of(option: str) -> list[str]:
    """The choice of a sampler that has this option."""
    owners = [name for name, sampler in SAMPLERS.items() if option in sampler.options]
    return ["--sampler", owners[0]] if owners else []


def complaint(status: int, err: str) -> str:
    """What is wrong with how a command ended: '' if it worked, or refused in one line of at most 300 characters."""
    lines = err.splitlines()
    refusals = [line for line in lines if line.startswith("minidiff: ")]
    if "Traceback" in err:
        return f"a traceback: {lines[-1]:.200}"
    if status not in (0, 1, 2, 130):
        return f"status {status}: {err[-200:]!r}"
    if any("Warning" in line for line in lines):
        return f"a warning: {next(line for line in lines if 'Warning' in line):.200}"
    if status in (1, 2) and (len(refusals) != 1 or lines[-1] != refusals[0]):
        return f"not one line at the end: {err[-300:]!r}"
    if any(len(line) > 300 for line in lines):
        return f"a line of {max(map(len, lines))} characters: {max(lines, key=len):.150}"
    if any(not line.isprintable() for line in lines):
        return f"control characters: {next(line for line in lines if not line.isprintable())!r:.200}"
    return ""
