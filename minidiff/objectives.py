"""What the network is asked to learn, and at which times: L_simple and how t is drawn (ledger V8, V9).

Algorithm 1: draw x₀ from the data, t from 1…T and ε from N(0, I); descend ∇‖ε − ε_θ(√ᾱ_t x₀ + √(1−ᾱ_t) ε, t)‖².
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidiff import autograd as ag
from minidiff import noising
from minidiff.autograd import Tensor
from minidiff.schedules import Schedule


def simple_loss(
    net: Callable[..., Tensor],
    schedule: Schedule,
    x0: np.ndarray,
    t: np.ndarray,
    noise: np.ndarray,
    label: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """L_simple (V8): the mean over batch and coordinates of (ε − ε_θ(x_t, t))², a Tensor of one number.

    net: (Tensor x_t, t, label, rng) → ε_θ as a Tensor. x0, noise (B, …); t (B,) integers 1…T; rng: for dropout.
    """
    x_t = noising.diffuse(schedule, x0, t, noise)
    return ag.mse(net(Tensor(x_t), schedule.times[t], label, rng), noise)


def uniform_times(rng: np.random.Generator, T: int, batch: int) -> np.ndarray:
    """t (batch,) drawn uniformly from 1…T, both ends included."""
    return rng.integers(1, T + 1, batch)


def antithetic_times(rng: np.random.Generator, T: int, batch: int) -> np.ndarray:
    """t (batch,): the first half uniform on 1…T, the second half T + 1 − t of the first (V9).

    Each t is uniform still, and a batch's mean time strays less. An odd batch has one time without a partner.
    """
    first = rng.integers(1, T + 1, (batch + 1) // 2)
    return np.concatenate([first, T + 1 - first[: batch // 2]])


TIMES = {"uniform": uniform_times, "antithetic": antithetic_times}
