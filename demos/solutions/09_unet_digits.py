"""Solutions of session 9: what a block on the way up takes, clipping, and guidance."""

import numpy as np


def join(low: np.ndarray, skip: np.ndarray) -> np.ndarray:
    """(B, H, W, C + D): low (B, ⌈H/2⌉, ⌈W/2⌉, C) at twice the resolution, then the channels of skip (B, H, W, D).

    Each pixel of low becomes 2 × 2 pixels; where H or W is odd, the last row or column is cut off.
    """
    wide = low.repeat(2, axis=1).repeat(2, axis=2)
    cut = wide[:, : skip.shape[1], : skip.shape[2]]
    return np.concatenate([cut, skip], axis=3)


def clipped(
    x_t: np.ndarray, eps: np.ndarray, alpha_bar: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """x̂_0, clipped to low…high, and the ε̂ that belongs to it, from x_t and a predicted ε, all of one shape."""
    signal, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    x0 = np.clip((x_t - sigma * eps) / signal, low, high)
    new_eps = (x_t - signal * x0) / sigma
    return x0, new_eps


def guided(free: np.ndarray, given: np.ndarray, w: float) -> np.ndarray:
    """The guided ε̂ (B, …) from that without a class, `free`, and that of the class, `given`.

    w = 0 is without a class, w = 1 the class as learned, and more exaggerates it.
    """
    return free + w * (given - free)
