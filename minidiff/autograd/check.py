"""The proof of a rule: its gradient against differences, in float64, over every entry of every argument."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidiff.autograd.tensor import Tensor


def check_gradient(
    function: Callable[..., Tensor], *arrays: np.ndarray, step: float = 1e-5, tolerance: float = 1e-7
) -> None:
    """Compare backward through function(*tensors) with central differences (f(a + h) − f(a − h)) / 2h.

    arrays: float64, each entry of which is moved by ± step. The result is contracted with a fixed random
    direction, so that a vjp is tested with a g that differs from entry to entry.

    Raises AssertionError with the place of the largest error, where it exceeds tolerance · (1 + the largest
    gradient). Also where an argument or g is changed by the passes, or two gradients share their memory.
    """
    arrays = tuple(np.asarray(a, dtype=np.float64) for a in arrays)
    tensors = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    out = function(*tensors)
    direction = np.random.default_rng(0).standard_normal(out.shape)
    given = direction.copy()
    out.backward(given)
    assert np.array_equal(given, direction), "backward changed the gradient that it was given"
    gradients = [np.zeros(t.shape) if t.grad is None else t.grad for t in tensors]
    for i, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        assert np.array_equal(tensor.data, array), f"argument {i} was changed by the passes"
        assert gradients[i].shape == array.shape, (
            f"gradient in argument {i} has shape {gradients[i].shape}, the argument {array.shape}"
        )
        assert not any(np.shares_memory(gradients[i], g) for g in gradients[:i]), "gradients share memory"

    for i, array in enumerate(arrays):
        numeric = np.empty(array.shape)
        for place in np.ndindex(*array.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[i][place] += sign * step
                ends.append(float(np.vdot(function(*map(Tensor, moved)).data, direction)))
            numeric[place] = (ends[0] - ends[1]) / (2 * step)
        assert np.isfinite(numeric).all(), (
            f"differences in argument {i} are not finite: no gradient to compare with"
        )
        error = np.abs(gradients[i] - numeric)
        worst = np.unravel_index(error.argmax(), error.shape) if error.size else ()
        bound = tolerance * (1 + np.abs(numeric).max(initial=0))
        assert error.max(initial=0) <= bound, (
            f"gradient in argument {i} at {tuple(map(int, worst))}: backward gives "
            f"{gradients[i][worst]:.9g}, differences give {numeric[worst]:.9g}"
        )
