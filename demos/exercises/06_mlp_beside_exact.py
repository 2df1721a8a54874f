"""Exercises of session 6: what a network learns, its EMA, and its targets.

Replace every `...`; then `python demos/check.py demos/exercises/06_mlp_beside_exact.py`.

1. `optimal_eps`: the exact ε for normally distributed data (O1): the noised data are normal too; what is their score?
2. `update_ema`: one update of the average of the weights, of use from the first step on
3. `from_v`: x̂_0 and ε̂ from a predicted v (R5)
"""

import numpy as np


def optimal_eps(x: np.ndarray, alpha_bar: float, mean: float, variance: float) -> np.ndarray:
    """ε*(x) of shape (B,): what a perfect network predicts at x (B,), for data N(mean, variance)."""
    centre = ...
    spread = ...
    return ...


def update_ema(average: np.ndarray, weights: np.ndarray, step: int, decay: float) -> np.ndarray:
    """The EMA (P,) after step number `step`, from that before it and the new weights, both (P,).

    The decay is `decay`, in [0, 1), but at most (1 + n)/(10 + n) at step n.
    """
    kept = ...
    return ...


def from_v(x_t: np.ndarray, v: np.ndarray, alpha_bar: float) -> tuple[np.ndarray, np.ndarray]:
    """x̂_0 and ε̂ from x_t and a predicted v, all of one shape."""
    signal, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    x0 = ...
    eps = ...
    return x0, eps
