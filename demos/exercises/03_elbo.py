"""Exercises of session 3: the bound and the loss.

Replace every `...`; then `python demos/check.py demos/exercises/03_elbo.py`.

1. `kl`: the KL divergence of two distributions over finitely many values (V1)
2. `step_term`: L_{t−1}, what a step costs (V4, V5)
3. `simple_loss`: the loss that trains the network (V8)
"""

from collections.abc import Callable

import numpy as np

from minidiff.diffusion.schedules import Schedule


def kl(q: np.ndarray, p: np.ndarray) -> float:
    """KL(q ‖ p) in nats: q and p (N,), positive, each with the sum 1."""
    return ...


def step_term(schedule: Schedule, t: int, eps: np.ndarray, eps_theta: np.ndarray) -> np.ndarray:
    """L_{t−1} in nats for each coordinate (B,), from ε and its prediction (B,), with σ_t² = β_t; t in 2…T.

    `schedule` has arrays with an entry for each t: alpha, alpha_bar, beta, one_minus_alpha_bar, posterior_variance.
    """
    variance = ...
    weight = ...
    constant = ...
    return weight * (eps - eps_theta) ** 2 + constant


def simple_loss(
    net: Callable[[np.ndarray, np.ndarray], np.ndarray],
    schedule: Schedule,
    x0: np.ndarray,
    t: np.ndarray,
    eps: np.ndarray,
) -> float:
    """L_simple, one number: x0 and ε (B, 1), t (B,) integers in 1…T; net(x_t, t) is the predicted ε (B, 1)."""
    alpha_bar = ...
    x_t = ...
    return ...
