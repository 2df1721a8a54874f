"""Solutions of session 6: what a network learns, its EMA, and its targets."""

import numpy as np


def optimal_eps(x: np.ndarray, alpha_bar: float, mean: float, variance: float) -> np.ndarray:
    """ε*(x) of shape (B,): what a perfect network predicts at x (B,), for data N(mean, variance)."""
    centre = np.sqrt(alpha_bar) * mean
    spread = alpha_bar * variance + 1 - alpha_bar
    return np.sqrt(1 - alpha_bar) * (x - centre) / spread


def update_ema(average: np.ndarray, weights: np.ndarray, step: int, decay: float) -> np.ndarray:
    """The EMA (P,) after step number `step`, from that before it and the new weights, both (P,).

    The decay is `decay`, in [0, 1), but at most (1 + n)/(10 + n) at step n.
    """
    kept = min(decay, (1 + step) / (10 + step))
    return kept * average + (1 - kept) * weights


def from_v(x_t: np.ndarray, v: np.ndarray, alpha_bar: float) -> tuple[np.ndarray, np.ndarray]:
    """x̂_0 and ε̂ from x_t and a predicted v, all of one shape."""
    signal, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    x0 = signal * x_t - sigma * v
    eps = sigma * x_t + signal * v
    return x0, eps
