"""The test of a rule: its gradient against central differences, in float64, in every entry of every argument."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidiff.autograd.tensor import Tensor


def check_gradient(
    function: Callable[..., Tensor], *arrays: np.ndarray, step: float = 1e-5, tolerance: float = 1e-7
) -> None:
    """Compare backward through function(*tensors) with central differences (f(a + h) − f(a − h)) / 2h.

    arrays: float64, each entry of which is perturbed by ± step. The result is contracted with a fixed random
    direction, so that a vjp is tested with a g that differs from entry to entry.

    Raises AssertionError with the index of the largest error if it exceeds tolerance · (1 + the largest
    gradient); also if a gradient has the wrong shape, if an argument or g is changed by the forward or backward
    pass, or if two gradients share memory.
    """
    arrays = tuple(np.asarray(a, dtype=np.float64) for a in arrays)
    tensors = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    out = function(*tensors)
    direction = np.random.default_rng(0).standard_normal(out.shape)
    g = direction.copy()
    try:
        out.backward(g)
    except ValueError as refusal:  # of a gradient of the wrong shape, or raised by a vjp
        raise AssertionError(f"backward failed: {refusal}") from refusal
    assert np.array_equal(g, direction), "backward changed the gradient that was passed to it"
    gradients = [np.zeros(t.shape) if t.grad is None else t.grad for t in tensors]
    for i, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        assert np.array_equal(tensor.data, array), f"argument {i} was changed by the forward or backward pass"
        assert gradients[i].shape == array.shape, (
            f"the gradient of argument {i} has shape {gradients[i].shape}, the argument {array.shape}"
        )
        assert not any(np.shares_memory(gradients[i], other) for other in gradients[:i]), (
            "gradients share memory"
        )

    for i, array in enumerate(arrays):
        numeric = np.empty(array.shape)
        for index in np.ndindex(*array.shape):
            values = []
            for sign in (1, -1):
                perturbed = [a.copy() for a in arrays]
                perturbed[i][index] += sign * step
                values.append(float(np.vdot(function(*map(Tensor, perturbed)).data, direction)))
            numeric[index] = (values[0] - values[1]) / (2 * step)
        assert np.isfinite(numeric).all(), (
            f"the differences in argument {i} are not finite: no gradient to compare with"
        )
        error = np.abs(gradients[i] - numeric)
        worst = np.unravel_index(error.argmax(), error.shape) if error.size else ()
        bound = tolerance * (1 + np.abs(numeric).max(initial=0))
        assert error.max(initial=0) <= bound, (
            f"gradient of argument {i} at {tuple(map(int, worst))}: backward gives "
            f"{gradients[i][worst]:.9g}, differences give {numeric[worst]:.9g}"
        )
