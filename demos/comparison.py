"""What the checks have in common: a student's result beside the right one, and beside those of common errors."""

from collections.abc import Mapping

import numpy as np


def compare(
    what: str,
    got: object,
    expected: object,
    errors: Mapping[str, object] | None = None,
    tolerance: float = 1e-9,
) -> str | None:
    """None if `got` equals `expected`, both numbers or arrays; else in words and numbers what is wrong.

    what: the name of the result. errors: for each common error a question, such as "have you used β where β̃ belongs?",
    and its result: the question of the first that equals `got` is added. tolerance: of the difference, relative to the
    largest entry.
    """
    expected = np.asarray(expected)
    try:
        got = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return f"{what}: expected numbers of shape {expected.shape}, got {got!r:.60}"
    question = next((f": {q}" for q, wrong in (errors or {}).items() if _close(got, wrong, tolerance)), "")
    if got.shape != expected.shape:
        return f"{what} has the shape {got.shape}, expected {expected.shape}{question}"
    if _close(got, expected, tolerance):
        return None
    worst = np.unravel_index(np.argmax(np.abs(got - expected)), expected.shape)
    where = f" at index {', '.join(map(str, worst))}" if worst else ""
    pairs = ((f"{got[worst]:.{digits}g}", f"{expected[worst]:.{digits}g}") for digits in range(4, 18))
    a, b = next(pair for pair in pairs if pair[0] != pair[1])
    return f"{what} is {a}{where}, expected {b}{question}"


def _close(got: np.ndarray, wanted: object, tolerance: float) -> bool:
    wanted = np.asarray(wanted, dtype=np.float64)
    if got.shape != wanted.shape:
        return False
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    with np.errstate(invalid="ignore"):  # of ∞ − ∞
        return bool(np.all((got == wanted) | (np.abs(got - wanted) <= tolerance * largest)))
