"""Solutions of session 4: the tape."""

from collections.abc import Callable

import numpy as np

VJP = Callable[[np.ndarray], np.ndarray]


def softplus(a: np.ndarray) -> tuple[np.ndarray, VJP]:
    """log(1 + eᵃ) of an array of any shape, and the vjp: from g = ∂L/∂result to ∂L/∂a, both of that shape.

    Neither may overflow: at a = 1000 the result is 1000 and the derivative 1.
    """
    out = np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))

    def vjp(g: np.ndarray) -> np.ndarray:
        return g * np.exp(a - out)  # eᵃ/(1 + eᵃ)

    return out, vjp


def backward(tape: list[tuple[tuple[int, ...], tuple[VJP, ...]]]) -> list[float]:
    """∂L/∂value for each of the values of a tape, of which the last is L.

    tape: for each value, in the order in which they were computed, the numbers of the values it was computed from (of
    the first value on the tape: 0) and the vjp to each of them. A leaf has none of either.
    """
    gradients = [0.0] * len(tape)
    gradients[-1] = 1.0
    for number in reversed(range(len(tape))):
        arguments, vjps = tape[number]
        for argument, vjp in zip(arguments, vjps, strict=True):
            gradients[argument] += vjp(gradients[number])
    return gradients


def fit(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient, of this shape, of an argument that NumPy has broadcast to the shape of g."""
    added = g.ndim - len(shape)
    g = g.sum(axis=tuple(range(added)))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True)
