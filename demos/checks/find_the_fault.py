"""Checks of `find_the_fault.py`: the named fault must produce, on the given data, what the program produces."""

from collections.abc import Callable

import numpy as np
import suspects


def for_program(number: int) -> Callable[[Callable], str | None]:
    """The check of the function program_NUMBER."""

    def check(f: Callable) -> str | None:
        """Compare it with program 0: where do they part, in the mean or in the variance, and on which data?"""
        name, mean, variance = f()
        if name not in suspects.NAMES:
            return f"there is no fault {name!r:.60}: give one of the list, in its words"
        seen, expected = (
            suspects.moments(each, mean, variance) for each in (suspects.ORDER[number - 1], name)
        )
        differs = ~np.isclose(seen, expected, rtol=1e-6, atol=1e-12).all(axis=1)
        data = f"N({mean:g}, {variance:g})"
        if differs.any():
            k = np.argmax(differs)
            (m, v), (n, w) = seen[k], expected[k]
            return (
                f"on data {data} program {number} has mean {m:.4g} and variance {v:.4g} at t = {suspects.T - k}, and "
                f"with this fault it would have {n:.4g} and {w:.4g}"
            )
        (m, v), (n, w) = seen[-1], suspects.suspect(0, mean, variance)[-1]
        if abs(m - n) < 0.01 * np.sqrt(w) and abs(v - w) < 0.01 * w:
            return (
                f"on data {data} the samples are as those of the right program: give data on which the fault shows, "
                "such as a mean other than 0, or a small variance"
            )
        return None

    return check


check_program_1, check_program_2, check_program_3, check_program_4, check_program_5 = map(
    for_program, range(1, 6)
)
check_program_6, check_program_7, check_program_8, check_program_9, check_program_10 = map(
    for_program, range(6, 11)
)
