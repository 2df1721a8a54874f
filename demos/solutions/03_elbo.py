"""Solutions of session 3: the bound and the loss."""

from collections.abc import Callable

import numpy as np

from minidiff.diffusion.schedules import Schedule


def kl(q: np.ndarray, p: np.ndarray) -> float:
    """KL(q ‖ p) in nats: q and p (N,), positive, each with the sum 1."""
    return np.sum(q * np.log(q / p))


def step_term(schedule: Schedule, t: int, eps: np.ndarray, eps_theta: np.ndarray) -> np.ndarray:
    """L_{t−1} in nats for each coordinate (B,), from ε and its prediction (B,), with σ_t² = β_t; t in 2…T.

    `schedule` has arrays with an entry for each t: alpha, alpha_bar, beta, one_minus_alpha_bar, posterior_variance.
    """
    variance = schedule.beta[t]
    weight = schedule.beta[t] ** 2 / (2 * variance * schedule.alpha[t] * schedule.one_minus_alpha_bar[t])
    ratio = schedule.posterior_variance[t] / variance
    constant = (ratio - 1 - np.log(ratio)) / 2
    return weight * (eps - eps_theta) ** 2 + constant


def simple_loss(
    net: Callable[[np.ndarray, np.ndarray], np.ndarray],
    schedule: Schedule,
    x0: np.ndarray,
    t: np.ndarray,
    eps: np.ndarray,
) -> float:
    """L_simple, one number: x0 and ε (B, 1), t (B,) integers in 1…T; net(x_t, t) is the predicted ε (B, 1)."""
    alpha_bar = schedule.alpha_bar[t][:, None]
    x_t = np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps
    return np.mean((eps - net(x_t, t)) ** 2)
