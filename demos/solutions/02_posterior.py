"""Solutions of session 2: the posterior."""

import numpy as np

from minidiff.diffusion.schedules import Schedule


def product(mean_1: float, variance_1: float, mean_2: float, variance_2: float) -> tuple[float, float]:
    """Mean and variance of the normal density that N(mean_1, variance_1) · N(mean_2, variance_2) is proportional to."""
    variance = 1 / (1 / variance_1 + 1 / variance_2)
    mean = variance * (mean_1 / variance_1 + mean_2 / variance_2)
    return mean, variance


def posterior(
    x0: np.ndarray, x_t: np.ndarray, alpha: float, alpha_bar_before: float
) -> tuple[np.ndarray, float]:
    """Mean (B,) and variance, one number, of q(x_{t−1} | x_t, x_0): x0 and x_t (B,), α_t and ᾱ_{t−1} in (0, 1)."""
    beta = 1 - alpha
    alpha_bar = alpha * alpha_bar_before
    variance = (1 - alpha_bar_before) / (1 - alpha_bar) * beta
    mean = (np.sqrt(alpha) * (1 - alpha_bar_before) * x_t + np.sqrt(alpha_bar_before) * beta * x0) / (
        1 - alpha_bar
    )
    return mean, variance


def reverse_step(schedule: Schedule, t: int, x_t: np.ndarray, eps: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x_{t−1} (B,) from x_t, the predicted ε and standard normal z, all (B,); σ_t² is β̃_t, and t in 1…T.

    `schedule` has arrays with an entry for each t: alpha, alpha_bar, beta, one_minus_alpha_bar, posterior_variance.
    """
    noise = np.sqrt(schedule.one_minus_alpha_bar[t])
    mean = (x_t - schedule.beta[t] / noise * eps) / np.sqrt(schedule.alpha[t])
    sigma = np.sqrt(schedule.posterior_variance[t])
    return mean + sigma * z
