"""What the commands share: arguments made from the dataclasses of settings and the records of samplers, and back.

Nothing is spelled here that is spelled there: a setting is a field (`minidiff.options`), an option of a sampler a
parameter of its function (`samplers.registry`).
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from minidiff.datasets import Dataset
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.diffusion.samplers import SAMPLERS, SPACINGS, Option
from minidiff.options import Options, check
from minidiff.options import parse as parse_setting
from minidiff.runs import Run, presets

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


class UsageError(Exception):
    """An invalid combination of options, or one that does not fit the run."""


class Parser(argparse.ArgumentParser):
    """Complains in one line, as everything else here does, and takes -1e-3 and -inf for numbers, not for options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-inf$|-nan$", re.IGNORECASE
        )

    def error(self, message: str) -> NoReturn:
        """Raises UsageError, which `main` prints."""
        command = self.prog.partition(" ")[2]
        raise UsageError(f"{command}: {message}" if command else message)


def add_command(
    commands: Subparsers,
    function: Callable[[argparse.Namespace], int],
    run: bool = False,
    name: str | None = None,
) -> Parser:
    """A command that is a function, whose docstring is the help. run: it takes the folder of a run.

    name: by default that of the function.
    """
    name = name or function.__name__
    added = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    added.set_defaults(command=function)
    if run:
        added.add_argument("run", metavar="RUN", type=path, help="the folder of a run")
    return added


# ---- settings of training


def add_settings(parser: Parser, *kinds: type[Options]) -> None:
    """An argument for each setting; one that is not given does not occur in the namespace."""
    for kind in kinds:
        for about in fields(kind):
            if about.metadata:
                _add_setting(parser, about)


def given_settings(options: argparse.Namespace, *kinds: type[Options]) -> dict[str, Any]:
    """The settings that were given on the command line, by name."""
    names = [about.name for kind in kinds for about in fields(kind) if about.metadata]
    return {name: value for name, value in vars(options).items() if name in names}


def _add_setting(parser: Parser, about: Field[Any]) -> None:
    flag = f"--{about.name.replace('_', '-')}"
    if about.metadata["type"] is bool:
        parser.add_argument(
            flag,
            dest=about.name,
            action="store_true",
            default=argparse.SUPPRESS,
            help=_literal(about.metadata["help"]),
        )
        return

    def parse(text: str) -> object:
        try:
            value = parse_setting(about.metadata["type"], text)
        except ValueError:
            value = text
        try:
            check(about.name, value, about)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(f"{about.name}: ")) from None
        return value

    default = presets.default_of(about)
    parser.add_argument(
        flag,
        dest=about.name,
        type=parse,
        choices=about.metadata["choices"] or None,
        default=argparse.SUPPRESS,
        help=_literal(about.metadata["help"] + (f" ({default})" if default else "")),
    )


def _literal(help: str) -> str:
    """argparse would take % for the beginning of a format."""
    return help.replace("%", "%%")


# ---- how to sample

SAMPLER_OPTION = "option of a sampler: "  # begins the names of these in the namespace


def add_recipe(parser: Parser) -> None:
    """Which sampler, in how many steps, how spaced, and every option of every sampler; after all other options."""
    add = parser.add_argument
    add("--sampler", choices=SAMPLERS, default=Recipe().sampler, help=f"the sampler ({Recipe().sampler})")
    steps: dict[str, list[str]] = {}
    for name, record in SAMPLERS.items():
        steps.setdefault(str(record.steps or "T"), []).append(name)
    default = "; ".join(f"{number} for {', '.join(names)}" for number, names in steps.items())
    add("--steps", type=whole, help=f"number of steps ({default}; at most T)")
    add("--spacing", choices=SPACINGS, help="spacing of the steps' times over 1…T (the sampler's own)")
    options: dict[str, dict[str, Option]] = {}
    for name, record in SAMPLERS.items():
        for key, option in record.options.items():
            options.setdefault(key, {})[name] = option
    for key, by_sampler in options.items():
        _add_sampler_option(parser, key, by_sampler)


def _add_sampler_option(parser: Parser, key: str, by_sampler: dict[str, Option]) -> None:
    option = next(iter(by_sampler.values()))
    flag = key.replace("_", "-")
    details: dict[str, Any]
    if option.type is bool:
        flag = f"no-{flag}" if option.default else flag
        help = "; ".join(
            f"{name}: {'do not ' if o.default else ''}{o.help or key}" for name, o in by_sampler.items()
        )
        details = {"action": "store_const", "const": not option.default}
    else:
        help = "; ".join(f"{name}: {o.help or key} ({o.default})" for name, o in by_sampler.items())
        details = {"type": option.type, "choices": option.choices or None, "metavar": _metavar(key, option)}
    details |= {"dest": f"{SAMPLER_OPTION}{key}", "help": _literal(help)}
    try:
        parser.add_argument(f"--{flag}", **details)
    except argparse.ArgumentError:  # a sampler of the user's own has an option with the name of one of ours
        parser.add_argument(f"--sampler-{flag}", **details)


def _metavar(key: str, option: Option) -> str | None:
    return None if option.choices else key.upper()


def recipe_of(options: argparse.Namespace, run: Run) -> Recipe:
    """How to sample. Raises UsageError where the options do not fit each other or the run."""
    given = {
        name.removeprefix(SAMPLER_OPTION): value
        for name, value in vars(options).items()
        if name.startswith(SAMPLER_OPTION) and value is not None
    }
    try:
        recipe = Recipe(options.sampler, options.steps, options.spacing, given)
        recipe.check(run.schedule)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if given.get("variance") == "learned" and not run.net.learned_variance:
        raise UsageError(f"{run.folder} has no learned variance; train one with --learn-variance")
    return recipe


# ---- what to sample


def add_conditioning(parser: Parser, what: str) -> None:
    """--class and --guidance."""
    parser.add_argument(
        "--class", dest="label", metavar="CLASS", help=f"{what}, by name or counted from 0 (any)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="guidance scale: 0 any class, 1 (default) as learned, more stronger",
    )


def conditioning_of(options: argparse.Namespace, run: Run) -> Conditioning:
    """What to sample. Raises UsageError where it does not fit the run."""
    if options.label is None and options.guidance not in (None, 0):
        raise UsageError("--guidance needs a class to guide towards: give one with --class")
    return checked_conditioning(label_of(options, run), options.guidance, run)


def label_of(options: argparse.Namespace, run: Run) -> int | None:
    """The number of the class that was given by its name or number, or None."""
    if options.label is None or options.label in run.class_names:
        return None if options.label is None else run.class_names.index(options.label)
    if not options.label.isdecimal():
        known = f"one of {', '.join(run.class_names)}, or " if run.class_names else ""
        raise UsageError(f"--class: expected {known}a number counted from 0, got {options.label!r}")
    return int(options.label)


def checked_conditioning(label: Any, guidance: float | None, run: Run) -> Conditioning:
    """The same of a label and a guidance, 1 if None."""
    try:
        conditioning = Conditioning(label, 1.0 if guidance is None else guidance)
        run.denoiser(conditioning)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return conditioning


def add_precision(parser: Parser) -> None:
    """--precision."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16"),
        default="float32",
        help="of the network: float32, or bf16, faster where the processor has it (float32)",
    )


def add_moved_data(parser: Parser, held_out: bool = True) -> None:
    """--data, and --held-out where there is no setting of this name."""
    add, where = parser.add_argument, "is now (where it was)"
    add(
        "--data",
        dest="moved_data",
        type=path,
        metavar="PATH",
        help=f"where the run's data {where}; of a network that was imported without data, any",
    )
    if held_out:
        add("--held-out", type=path, metavar="PATH", help=f"where the run's data to hold out {where}")


def data_of(options: argparse.Namespace, run: Run) -> Dataset:
    """The data of the run, from where it is said to be; with a note where it may be other than it was trained on."""
    data = run.data(options.moved_data, options.held_out)
    if run.facts.checksum == "":
        print(
            f"note: {data.name} is not known to be what {run.folder} was trained on; the run does not keep it"
        )
    return data


# ---- kinds of values


def whole(text: str, least: int = 1) -> int:
    """A whole number of at least 1, which fits into 64 bits."""
    # Python converts no more than some thousand digits.
    if not (text.isdecimal() and text.isascii() and len(text) < 20 and least <= int(text) < 2**63):
        limit = " and below 2^63" if text.isdecimal() else ""
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}{limit}, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return whole(text, least=0)


def positive(text: str) -> float:
    """A number above 0 and at most a billion: as minutes, two millennia."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most 1e9, got {text!r}")
    return value


def positive_or_0(text: str) -> float:
    """The same, or 0."""
    return 0.0 if text == "0" else positive(text)


def path(text: str) -> Path:
    """A path; ~ and ~user are the home directories."""
    home = os.path.expanduser(text)
    if not text or "\0" in text or home.startswith("~"):
        raise argparse.ArgumentTypeError(
            f"expected a path, got {text!r}" + ", no user's home" * (text[:1] == "~")
        )
    return Path(home)


def source(text: str) -> str:
    """The name of a data set, or a path, as it is."""
    path(text)
    return text
