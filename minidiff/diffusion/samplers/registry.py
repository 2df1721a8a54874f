"""One record for each sampler: its function, its default steps and spacing, and its options with their help.

`SAMPLERS`, `generation.Recipe` and the command line read everything from here. A sampler of your own is one file with
a generator function, and one line:

    SAMPLERS["em"] = Sampler(euler_maruyama, steps=100, spacing="trailing")
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin, get_type_hints

from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import check_spacing


@dataclass(frozen=True)
class Option:
    """An option of a sampler, as its function's signature has it. choices: of a `Literal`, else empty."""

    default: object
    type: type
    choices: tuple[object, ...]
    help: str


@dataclass(frozen=True)
class Sampler:
    """What is known of a sampler besides its mathematics.

    function: a generator function `sampler(denoiser, x_T, rng, timesteps=None, …)` that yields `State`s and ends at
        t = 0. What follows the first four parameters are its options; each has a default and a type hint.
    steps: by default; None: one for each of the T times.
    spacing: by default, one of `SPACINGS`.
    help: a few words for options by name.

    Raises TypeError for a function whose parameters are others, ValueError for an unknown spacing, fewer than one step
    or help for an option that there is not.
    """

    function: Callable[..., Iterator[State]]
    steps: int | None = None
    spacing: str = "trailing"
    help: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = list(inspect.signature(self.function).parameters)
        if names[:4] != ["denoiser", "x_T", "rng", "timesteps"]:
            raise TypeError(
                "expected a sampler(denoiser, x_T, rng, timesteps=None, …), got a function of "
                f"({', '.join(names)})"
            )
        if unknown := self.help.keys() - self.options.keys():
            raise ValueError(f"help for {', '.join(sorted(unknown))}, which is no option of this sampler")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"expected at least one step by default, got {self.steps}")
        check_spacing(self.spacing)

    @property
    def options(self) -> dict[str, Option]:
        """Its options by name, in the order of the signature."""
        hints = get_type_hints(getattr(self.function, "func", self.function))  # that of a functools.partial
        parameters = list(inspect.signature(self.function).parameters.values())[4:]
        return {p.name: _option(p, hints.get(p.name), self.help.get(p.name, "")) for p in parameters}


def _option(parameter: inspect.Parameter, hint: object, text: str) -> Option:
    if parameter.default is parameter.empty:
        raise TypeError(f"every option of a sampler has a name and a default; {parameter} has none")
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if parameter.default is None:  # `order: int | None = None` takes an int; without a hint, text
        hint = next((kind for kind in get_args(hint) if kind is not type(None)), str)
    kind = hint if isinstance(hint, type) else type(parameter.default)  # of `eta: float = 0` float
    return Option(parameter.default, kind, choices, text)
