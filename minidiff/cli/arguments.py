"""What the commands share: arguments made from the dataclasses of settings and the records of samplers, and back.

Nothing is spelled here that is spelled there: a setting is a field (`minidiff.options`), an option of a sampler a
parameter of its function (`samplers.registry`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

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
    """Complains in one line, as everything else here does."""

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
        added.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
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


def add_recipe(parser: Parser) -> None:
    """Which sampler, in how many steps, how spaced, and every option of every sampler."""
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
    help = "; ".join(f"{name}: {o.help or key} ({o.default})" for name, o in by_sampler.items())
    flag = key.replace("_", "-")
    if option.type is bool:
        flag = f"no-{flag}" if option.default else flag
        help = "; ".join(
            f"{name}: {'do not ' if o.default else ''}{o.help or key}" for name, o in by_sampler.items()
        )
        parser.add_argument(
            f"--{flag}", dest=key, action="store_const", const=not option.default, help=_literal(help)
        )
    else:
        choices = option.choices or None
        parser.add_argument(f"--{flag}", dest=key, type=option.type, choices=choices, help=_literal(help))


def recipe_of(options: argparse.Namespace, run: Run) -> Recipe:
    """How to sample. Raises UsageError where the options do not fit each other or the run."""
    names = {key for record in SAMPLERS.values() for key in record.options}
    given = {key: value for key, value in vars(options).items() if key in names and value is not None}
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
    parser.add_argument("--class", dest="label", type=natural, metavar="N", help=what)
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
    return checked_conditioning(options.label, options.guidance, run)


def checked_conditioning(label: Any, guidance: float | None, run: Run) -> Conditioning:
    """The same of a label and a guidance, 1 if None."""
    try:
        conditioning = Conditioning(label, 1.0 if guidance is None else guidance)
        run.denoiser(conditioning)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return conditioning


# ---- kinds of values


def whole(text: str, least: int = 1) -> int:
    """A whole number of at least 1."""
    if not (text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return whole(text, least=0)


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value
