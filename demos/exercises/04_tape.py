"""Exercises of session 4: the tape.

Replace every `...`; then `python demos/check.py demos/exercises/04_tape.py`.

1. `softplus`: a rule, forward beside vjp
2. `backward`: the walk along a tape in reverse
3. `fit`: the gradient of an argument that was broadcast
"""

from collections.abc import Callable

import numpy as np

VJP = Callable[[np.ndarray], np.ndarray]


def softplus(a: np.ndarray) -> tuple[np.ndarray, VJP]:
    """log(1 + eᵃ) of an array of any shape, and the vjp: from g = ∂L/∂result to ∂L/∂a, both of that shape.

    Neither may overflow: at a = 1000 the result is 1000 and the derivative 1.
    """
    out = ...

    def vjp(g: np.ndarray) -> np.ndarray:
        return ...

    return out, vjp


def backward(tape: list[tuple[tuple[int, ...], tuple[VJP, ...]]]) -> list[float]:
    """∂L/∂value for each of the values of a tape, of which the last is L.

    tape: for each value, in the order in which they were computed, the numbers of the values it was computed from (of
    the first value on the tape: 0) and the vjp to each of them. A leaf has none of either.
    """
    gradients = [0.0] * len(tape)
    gradients[-1] = ...
    for number in ...:
        arguments, vjps = tape[number]
        for argument, vjp in zip(arguments, vjps, strict=True):
            gradients[argument] = ...
    return gradients


def fit(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient, of this shape, of an argument that NumPy has broadcast to the shape of g."""
    added = ...  # how many axes g has more than the argument, all at the front
    g = ...  # without them
    stretched = ...  # the axes along which the argument has one entry and g has several
    return ...
