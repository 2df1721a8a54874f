"""Exercises of session 2: the posterior.

Replace every `...`; then `python demos/check.py demos/exercises/02_posterior.py`.

1. `product`: the product of two normal densities (R6)
2. `posterior`: mean and variance of one step back, for a known x_0 (R2, R3)
3. `reverse_step`: one step of a sampler (R4, S2)
"""

import numpy as np

from minidiff.diffusion.schedules import Schedule


def product(mean_1: float, variance_1: float, mean_2: float, variance_2: float) -> tuple[float, float]:
    """Mean and variance of the normal density that N(mean_1, variance_1) · N(mean_2, variance_2) is proportional to."""
    variance = ...
    mean = ...
    return mean, variance


def posterior(
    x0: np.ndarray, x_t: np.ndarray, alpha: float, alpha_bar_before: float
) -> tuple[np.ndarray, float]:
    """Mean (B,) and variance, one number, of q(x_{t−1} | x_t, x_0): x0 and x_t (B,), α_t and ᾱ_{t−1} in (0, 1)."""
    beta = ...
    alpha_bar = ...
    variance = ...
    mean = ...
    return mean, variance


def reverse_step(schedule: Schedule, t: int, x_t: np.ndarray, eps: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x_{t−1} (B,) from x_t, the predicted ε and standard normal z, all (B,); σ_t² is β̃_t, and t in 1…T.

    `schedule` has arrays with an entry for each t: alpha, alpha_bar, beta, one_minus_alpha_bar, posterior_variance.
    """
    mean = ...
    sigma = ...
    return mean + sigma * z
