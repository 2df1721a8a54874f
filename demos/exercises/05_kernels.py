"""Exercises of session 5: backward passes on paper, and sums that keep their digits.

Replace every `...`; then `python demos/check.py demos/exercises/05_kernels.py`.

1. `linear_backward`: the three gradients of y = x w + b
2. `normalise_backward`: the gradient of normalisation
3. `combine`: the squares of two parts, as threads combine them
"""

import numpy as np


def linear_backward(g: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients in x (N, I), w (I, O) and b (O,) of y = x w + b, from g = ∂L/∂y (N, O)."""
    dx = ...
    dw = ...
    db = ...
    return dx, dw, db


def normalise_backward(h: np.ndarray, x_hat: np.ndarray, rstd: np.ndarray) -> np.ndarray:
    """∂L/∂x (B, n) of x̂ = rstd (x − mean), row by row: h = ∂L/∂x̂ and x̂ (B, n), rstd = 1/√(variance + ε) (B, 1)."""
    mean = ...
    along = ...
    return ...


def combine(
    count_a: int, mean_a: float, squares_a: float, count_b: int, mean_b: float, squares_b: float
) -> tuple[int, float, float]:
    """Count, mean and Σ(x − mean)² of all numbers of two parts, from those of each part, at least 1 number each."""
    count = ...
    difference = mean_b - mean_a
    mean = ...
    squares = ...
    return count, mean, squares
