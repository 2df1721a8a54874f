"""Which times a sampler visits: a strictly falling tuple that begins at some t ≤ T and ends in 0.

"The previous t" is always the next entry of the tuple, never a formula. A rule takes (T, steps) and gives
steps + 1 entries; with steps = T each of them is every time there is. All in whole numbers, so nothing
hangs on rounding.
"""

import operator
from collections.abc import Callable, Sequence

from minidiff.schedules import falling_times

Times = tuple[int, ...]


def trailing(T: int, steps: int) -> Times:
    """T·k/steps, rounded: evenly from T, where the noise is, to 0; the last step is as long as any."""
    T, steps = _checked(T, steps)
    return tuple(_rounded(T * k, steps) for k in range(steps, -1, -1))


def leading(T: int, steps: int) -> Times:
    """1 + k·⌊T/steps⌋, then 0: the original DDIM's. Begins well below T, although x_T is pure noise."""
    T, steps = _checked(T, steps)
    return (*(1 + k * (T // steps) for k in range(steps - 1, -1, -1)), 0)


def linspace(T: int, steps: int) -> Times:
    """Evenly from T to 1, rounded, then 0; a single step goes from T."""
    T, steps = _checked(T, steps)
    if steps == 1:
        return (T, 0)
    return (*(1 + _rounded((T - 1) * k, steps - 1) for k in range(steps - 1, -1, -1)), 0)


def quadratic(T: int, steps: int) -> Times:
    """T·(k/steps)², rounded, and at least k: dense near 0, where the data takes shape, and always falling."""
    T, steps = _checked(T, steps)
    return tuple(max(k, _rounded(T * k * k, steps * steps)) for k in range(steps, -1, -1))


def explicit(T: int, times: Sequence[int] | None = None) -> Times:
    """A list of one's own, checked; None stands for every time T, T−1, …, 0.

    Raises ValueError unless the times are integers that fall strictly from at most T to 0.
    """
    return falling_times(T, range(T, -1, -1) if times is None else times)


SPACINGS: dict[str, Callable[[int, int], Times]] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "quadratic": quadratic,
}


def _checked(T: int, steps: int) -> tuple[int, int]:
    try:
        T, steps = operator.index(T), operator.index(steps)
    except TypeError:
        raise ValueError(f"expected T and the number of steps as integers, got {T!r} and {steps!r}") from None
    if not 1 <= steps <= T:
        raise ValueError(f"expected between 1 and T = {T} sampling steps, got {steps}")
    return T, steps


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
