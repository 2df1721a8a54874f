"""Checks of the arguments that a network is built from: ValueError, in one line that names the argument."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np


def generator(value: object) -> np.random.Generator:
    """The `rng` of a network, if it is a generator."""
    if not isinstance(value, np.random.Generator):
        raise ValueError(f"rng: expected a numpy Generator, got {value!r:.80}")
    return value


def integer(
    name: str, value: object, at_least: int = 1, at_most: float = math.inf, even: bool = False
) -> int:
    """The value, if it is an integer in that range, and even where it has to be."""
    if not _is_integer(value, at_least) or value > at_most or (even and value % 2):
        limits = f"≥ {at_least}" + (f" and ≤ {at_most}" if at_most < math.inf else "")
        raise ValueError(f"{name}: expected an {'even ' * even}integer {limits}, got {value!r:.80}")
    return int(value)


def integers(name: str, values: object, empty: bool = False) -> tuple[int, ...]:
    """The values, if they are integers ≥ 1, and at least one unless they may be `empty`."""
    listed = tuple(values) if isinstance(values, (list, tuple)) else None
    if listed is None or not (listed or empty) or not all(_is_integer(value, 1) for value in listed):
        raise ValueError(
            f"{name}: expected {'' if empty else 'one or more '}integers ≥ 1, got {values!r:.80}"
        )
    return tuple(map(int, listed))


def multipliers(name: str, values: object, width: int) -> tuple[float, ...]:
    """The values, if they are numbers > 0, one or more, whose products with `width` are whole; integers stay such."""
    listed = tuple(values) if isinstance(values, (list, tuple)) else ()
    if not listed or not all(_is_real(value) and _is_whole(value * width) for value in listed):
        raise ValueError(
            f"{name}: expected one or more numbers > 0 that make {width} channels a whole number, got {values!r:.80}"
        )
    return tuple(int(value) if float(value).is_integer() else float(value) for value in listed)


def fraction(name: str, value: object, zero: bool = True) -> float:
    """The value, if it is a number ≥ 0 and < 1; > 0 unless it may be `zero`."""
    if not _is_real(value) or not 0 <= value < 1 or (value == 0 and not zero):
        raise ValueError(f"{name}: expected a number {'≥' if zero else '>'} 0 and < 1, got {value!r:.80}")
    return value


def flag(name: str, value: object) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r:.80}")
    return value


def _is_integer(value: object, at_least: int) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= at_least)


def _is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.integer)) and not isinstance(value, bool)


def _is_whole(number: float) -> bool:
    """Whether it is a whole number > 0, but for rounding errors."""
    return 0.5 < number < math.inf and math.isclose(number, round(number), rel_tol=1e-12)
