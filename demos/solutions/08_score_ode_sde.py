"""Solutions of session 8: the score, the ODE and a method of second order for it."""

from collections.abc import Callable

import numpy as np


def score(
    x: np.ndarray, alpha_bar: float, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> np.ndarray:
    """∇ log q_t(x) of shape (B,) at x (B,), for data Σ_k w_k N(m_k, v_k); weights, means and variances are (K,)."""
    centres = np.sqrt(alpha_bar) * means
    spreads = alpha_bar * variances + 1 - alpha_bar
    offset = x[:, None] - centres
    densities = weights * np.exp(-(offset**2) / (2 * spreads)) / np.sqrt(spreads)
    return -(densities * offset / spreads).sum(axis=1) / densities.sum(axis=1)


def ode_drift(x: np.ndarray, eps: np.ndarray, alpha_bar: float, beta: float) -> np.ndarray:
    """dx/dt of the probability-flow ODE, (B,), from x and ε̂, both (B,); β is per unit of time."""
    return -beta / 2 * x + beta / 2 * eps / np.sqrt(1 - alpha_bar)


def heun_step(
    eps_at: Callable[[np.ndarray, float], np.ndarray], x: np.ndarray, a_t: float, a_s: float
) -> np.ndarray:
    """x_s (B,) from x = x_t (B,): a step of Heun's method from ᾱ_t = a_t to ᾱ_s = a_s, which is larger.

    `eps_at(x, a)` is ε̂ (B,) at x (B,) and the noise level ᾱ = a.
    """
    sigma_t, sigma_s = np.sqrt(1 / a_t - 1), np.sqrt(1 / a_s - 1)
    eps = eps_at(x, a_t)
    euler = np.sqrt(a_s) * (x / np.sqrt(a_t) + (sigma_s - sigma_t) * eps)
    corrected = (eps + eps_at(euler, a_s)) / 2
    return np.sqrt(a_s) * (x / np.sqrt(a_t) + (sigma_s - sigma_t) * corrected)
