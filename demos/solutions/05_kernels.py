"""Solutions of session 5: backward passes on paper, and sums that keep their digits."""

import numpy as np


def linear_backward(g: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients in x (N, I), w (I, O) and b (O,) of y = x w + b, from g = ∂L/∂y (N, O)."""
    dx = g @ w.T
    dw = x.T @ g
    db = g.sum(axis=0)
    return dx, dw, db


def normalise_backward(h: np.ndarray, x_hat: np.ndarray, rstd: np.ndarray) -> np.ndarray:
    """∂L/∂x (B, n) of x̂ = rstd (x − mean), row by row: h = ∂L/∂x̂ and x̂ (B, n), rstd = 1/√(variance + ε) (B, 1)."""
    mean = h.mean(axis=1, keepdims=True)
    along = x_hat * (h * x_hat).mean(axis=1, keepdims=True)
    return rstd * (h - mean - along)


def combine(
    count_a: int, mean_a: float, squares_a: float, count_b: int, mean_b: float, squares_b: float
) -> tuple[int, float, float]:
    """Count, mean and Σ(x − mean)² of all numbers of two parts, from those of each part, at least 1 number each."""
    count = count_a + count_b
    difference = mean_b - mean_a
    mean = mean_a + difference * count_b / count
    squares = squares_a + squares_b + difference**2 * count_a * count_b / count
    return count, mean, squares
