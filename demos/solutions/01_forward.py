"""Solutions of session 1: the forward process."""

import numpy as np


def step(x: np.ndarray, beta: float, z: np.ndarray) -> np.ndarray:
    """x_t of shape (B,) from x = x_{t−1} (B,), β_t in (0, 1) and standard normal noise z (B,)."""
    signal = np.sqrt(1 - beta)
    noise = np.sqrt(beta)
    return signal * x + noise * z


def alpha_bars(betas: np.ndarray) -> np.ndarray:
    """ᾱ_0…ᾱ_T (T + 1,), of which the first is 1, from β_1…β_T (T,)."""
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def jump(x0: np.ndarray, alpha_bar: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """x_t (B, H, W, C) from images x0 and noise ε of that shape, and ᾱ_t (B,): a noise level for each image."""
    alpha_bar = alpha_bar.reshape(-1, 1, 1, 1)
    return np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps
