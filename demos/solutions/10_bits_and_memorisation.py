"""Solutions of session 10: bits, and the optimum on finite data."""

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
    half = 1 / (levels - 1)
    low = -math.inf if k == 0 else value - half
    high = math.inf if k == levels - 1 else value + half
    return cdf((high - mean) / sigma) - cdf((low - mean) / sigma)


def bits_per_dim(
    prior: np.ndarray, steps: np.ndarray, data: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Bits per dimension (B,) from L_T (B,), the L_{t−1} of all t = 2…T (T − 1, B) and L_0 (B,), in nats.

    shape: that of an image, such as (8, 8, 1).
    """
    nats = prior + steps.sum(axis=0) + data
    return nats / (math.prod(shape) * math.log(2))


def best_x0(x: np.ndarray, alpha_bar: float, points: np.ndarray) -> np.ndarray:
    """E[x_0 | x_t = x] of shape (B, D) at x (B, D), for data that are one of points (N, D), each equally likely.

    Right at any noise level, also where every density underflows to 0.
    """
    squares = ((x[:, None] - np.sqrt(alpha_bar) * points) ** 2).sum(axis=2)
    logits = -squares / (2 * (1 - alpha_bar))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights @ points / weights.sum(axis=1, keepdims=True)
