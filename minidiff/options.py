"""Settings, each spelled once: its default, its range and its help.

`setting` declares a field of a frozen dataclass, an `Options`. What a run is made of and the command line's arguments
are read from the fields, so that a new setting is one line.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, TypeVar


def setting(
    default: Any,
    help: str,
    *,
    type: type | None = None,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    infinite: bool = False,
    choices: Collection[str] = (),
) -> Any:
    """A field of a dataclass of options: its default, its help, the range or the choices of its values.

    type: that of the default, if that is not None; tuple is one of integers, each of `at_least`.
    """
    limits = {"≥": at_least, ">": above, "<": below, "≤": at_most}
    metadata = {
        "help": help,
        "type": type or default.__class__,
        "limits": {sign: limit for sign, limit in limits.items() if limit is not None},
        "infinite": infinite,
        "choices": choices,  # as it is: a registry may grow
    }
    return field(default=default, metadata=metadata)


class OptionError(ValueError):
    """A setting outside its range, or settings that do not fit each other or the data."""


def check(name: str, value: object, about: Field[Any]) -> None:
    """Raises OptionError, naming the setting, for a value of another type or outside its range or choices."""
    kind, limits, choices = (about.metadata[key] for key in ("type", "limits", "choices"))
    if value is None and about.default is None:
        return
    if kind is tuple:
        _check_integers(name, value, limits["≥"])
        return
    if choices:
        if value not in tuple(choices):
            raise OptionError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")
        return
    number = kind in (int, float)
    right = _is_number(value, kind, about.metadata["infinite"]) if number else isinstance(value, kind)
    if not right or not all(_INSIDE[sign](value, limit) for sign, limit in limits.items()):
        words = {bool: "True or False", str: "text", int: "an integer", float: "a number"}[kind]
        range_ = " and ".join(f"{sign} {limit:g}" for sign, limit in limits.items())
        raise OptionError(f"{name}: expected {words} {range_}".rstrip() + f", got {value!r}")


_INSIDE: dict[str, Any] = {
    "≥": lambda value, limit: value >= limit,
    ">": lambda value, limit: value > limit,
    "<": lambda value, limit: value < limit,
    "≤": lambda value, limit: value <= limit,
}


def _is_number(value: object, kind: type, infinite: bool) -> bool:
    if isinstance(value, bool) or (isinstance(value, float) and math.isinf(value) and not infinite):
        return False
    return isinstance(value, int) or (kind is float and isinstance(value, float) and not math.isnan(value))


def _check_integers(name: str, values: object, least: int) -> None:
    listed = values if isinstance(values, (tuple, list)) else ()
    if not listed or not all(_is_number(n, int, False) and n >= least for n in listed):
        raise OptionError(f"{name}: expected one or more integers ≥ {least}, got {values!r}")


def parse(kind: type, text: str) -> object:
    """The value of a setting of this type that a text stands for, as 1,2,2 for a tuple. Raises ValueError."""
    return tuple(int(number) for number in text.split(",")) if kind is tuple else kind(text)


@dataclass(frozen=True)
class Options:
    """A dataclass of settings, whose values are checked as they are set."""

    def __post_init__(self) -> None:
        for about in fields(self):
            if about.metadata:
                check(about.name, getattr(self, about.name), about)


O = TypeVar("O", bound=Options)


def facts(options: Options) -> dict[str, Any]:
    """The settings for JSON, which has no infinity: None in its place."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return None if value == math.inf else value

    described: dict[str, Any] = plain(asdict(options))
    return described


def given(options: Options) -> dict[str, Any]:
    """The settings that are not at their defaults."""
    values = {about.name: (getattr(options, about.name), about.default) for about in fields(options)}
    return {name: value for name, (value, default) in values.items() if value != default}


def from_facts(kind: type[O], facts: Mapping[str, Any]) -> O:
    """The options of which these are the `facts`. Raises TypeError for names that there are not."""
    infinite = {about.name for about in fields(kind) if about.metadata and about.metadata["infinite"]}
    return kind(
        **{name: math.inf if value is None and name in infinite else value for name, value in facts.items()}
    )
