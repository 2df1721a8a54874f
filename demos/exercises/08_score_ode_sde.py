"""Exercises of session 8: the score, the ODE and a method of second order for it.

Replace every `...`; then `python demos/check.py demos/exercises/08_score_ode_sde.py`.

1. `score`: that of a noised mixture of normal distributions (O1)
2. `ode_drift`: the right side of the probability-flow ODE
3. `heun_step`: Euler's step in x̃ = x/√ᾱ and σ̃ = √(1/ᾱ − 1), then the mean of ε̂ at both of its ends
"""

from collections.abc import Callable

import numpy as np


def score(
    x: np.ndarray, alpha_bar: float, weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> np.ndarray:
    """∇ log q_t(x) of shape (B,) at x (B,), for data Σ_k w_k N(m_k, v_k); weights, means and variances are (K,)."""
    centres = ...
    spreads = ...
    offset = x[:, None] - centres
    densities = ...
    return ...


def ode_drift(x: np.ndarray, eps: np.ndarray, alpha_bar: float, beta: float) -> np.ndarray:
    """dx/dt of the probability-flow ODE, (B,), from x and ε̂, both (B,); β is per unit of time."""
    return ...


def heun_step(
    eps_at: Callable[[np.ndarray, float], np.ndarray], x: np.ndarray, a_t: float, a_s: float
) -> np.ndarray:
    """x_s (B,) from x = x_t (B,): a step of Heun's method from ᾱ_t = a_t to ᾱ_s = a_s, which is larger.

    `eps_at(x, a)` is ε̂ (B,) at x (B,) and the noise level ᾱ = a.
    """
    sigma_t, sigma_s = np.sqrt(1 / a_t - 1), np.sqrt(1 / a_s - 1)
    eps = eps_at(x, a_t)
    euler = ...
    corrected = ...
    return ...
