"""Exercises of session 1: the forward process.

Replace every `...`; then `python demos/check.py demos/exercises/01_forward.py`.

1. `step`: one step of the forward process (F1)
2. `alpha_bars`: ᾱ_0…ᾱ_T from β_1…β_T (F4)
3. `jump`: from x_0 to x_t at once, for a batch of images each at its own noise level (F4, F5, F8)
"""

import numpy as np


def step(x: np.ndarray, beta: float, z: np.ndarray) -> np.ndarray:
    """x_t of shape (B,) from x = x_{t−1} (B,), β_t in (0, 1) and standard normal noise z (B,)."""
    signal = ...
    noise = ...
    return signal * x + noise * z


def alpha_bars(betas: np.ndarray) -> np.ndarray:
    """ᾱ_0…ᾱ_T (T + 1,), of which the first is 1, from β_1…β_T (T,)."""
    return ...


def jump(x0: np.ndarray, alpha_bar: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """x_t (B, H, W, C) from images x0 and noise ε of that shape, and ᾱ_t (B,): a noise level for each image."""
    alpha_bar = ...
    return ...
