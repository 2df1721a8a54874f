"""Checks of the arguments that a network is built from: ValueError, in one line that names the argument."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np


def generator(value: object) -> np.random.Generator:
    """The `rng` of a network, if it is a generator."""
    if not isinstance(value, np.random.Generator):
        raise ValueError(f"rng: expected a numpy Generator, got {value!r:.80}")
    return value


def integer(name: str, value: object, at_least: int = 1, even: bool = False) -> int:
    """The value, if it is an integer ≥ at_least, and even where it has to be."""
    if not _is_integer(value, at_least) or (even and value % 2):
        raise ValueError(f"{name}: expected an {'even ' * even}integer ≥ {at_least}, got {value!r:.80}")
    return int(value)


def integers(name: str, values: object, empty: bool = False) -> tuple[int, ...]:
    """The values, if they are integers ≥ 1, and at least one unless they may be `empty`."""
    listed = tuple(values) if isinstance(values, (list, tuple)) else None
    if listed is None or not (listed or empty) or not all(_is_integer(value, 1) for value in listed):
        raise ValueError(
            f"{name}: expected {'' if empty else 'one or more '}integers ≥ 1, got {values!r:.80}"
        )
    return tuple(map(int, listed))


def fraction(name: str, value: object) -> float:
    """The value, if it is a number ≥ 0 and < 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number ≥ 0 and < 1, got {value!r:.80}")
    return value


def flag(name: str, value: object) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r:.80}")
    return value


def _is_integer(value: object, at_least: int) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= at_least)
