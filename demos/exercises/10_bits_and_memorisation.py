"""Exercises of session 10: bits, and the optimum on finite data.

Replace every `...`; then `python demos/check.py demos/exercises/10_bits_and_memorisation.py`.

1. `level_mass`: the probability of one of the levels of a pixel (V6)
2. `bits_per_dim`: from the terms of the bound (V1)
3. `best_x0`: what a perfect network predicts on a finite data set (O2)
"""

import math

import numpy as np


def cdf(z: float) -> float:
    """Φ(z), the probability that a standard normal variable is below z; z may be −∞ or ∞."""
    return math.erfc(-z / math.sqrt(2)) / 2


def level_mass(k: int, mean: float, sigma: float, levels: int) -> float:
    """The probability of level k of 0…levels − 1, whose value is −1 + 2k/(levels − 1), under N(mean, σ²).

    Its bin reaches to the midpoints between it and its neighbours; the first and last bins are open.
    """
    value = -1 + 2 * k / (levels - 1)
    half = ...
    low = ...
    high = ...
    return ...


def bits_per_dim(
    prior: np.ndarray, steps: np.ndarray, data: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Bits per dimension (B,) from L_T (B,), the L_{t−1} of all t = 2…T (T − 1, B) and L_0 (B,), in nats.

    shape: that of an image, such as (8, 8, 1).
    """
    nats = ...
    return ...


def best_x0(x: np.ndarray, alpha_bar: float, points: np.ndarray) -> np.ndarray:
    """E[x_0 | x_t = x] of shape (B, D) at x (B, D), for data that are one of points (N, D), each equally likely.

    Right at any noise level, also where every density underflows to 0.
    """
    squares = ((x[:, None] - np.sqrt(alpha_bar) * points) ** 2).sum(axis=2)
    logits = ...
    weights = ...
    return ...
