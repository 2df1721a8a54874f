"""Exercises of session 7: three samplers.

Replace every `...`; then `python demos/check.py demos/exercises/07_samplers.py`. They are checked without sampling: on
normal data the mean and variance of what a sampler produces follow exactly from one run (O3).

1. `ddpm`: Algorithm 2 with σ_t² = β̃_t (S2, R3)
2. `ddim_step`: from any t to any s < t, with any η (S3)
3. `euler_maruyama`: steps of the reverse SDE, over any list of times
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from minidiff import Denoiser
from minidiff.diffusion.samplers import State


def ddpm(denoiser: Denoiser, x: np.ndarray, rng: np.random.Generator) -> Iterator[State]:
    """A State(t − 1, x, x̂_0) after each step from t, for t = T, T − 1, …, 1; x (B, D) is x_T.

    `denoiser(x, t)` has x0 and eps; `denoiser.schedule` has T, beta, alpha, alpha_bar and posterior_variance.
    """
    schedule = denoiser.schedule
    for t in range(schedule.T, 0, -1):
        x0 = denoiser(x, t).x0
        noise = 1 - schedule.alpha_bar[t]
        mean = ...
        sigma = ...
        x = mean + sigma * rng.standard_normal(x.shape)
        yield State(t - 1, x, x0)


def ddim_step(
    x0: np.ndarray, eps: np.ndarray, a_t: float, a_s: float, eta: float, z: np.ndarray
) -> np.ndarray:
    """x_s from x̂_0, ε̂ and fresh noise z, all (B, D): from ᾱ_t = a_t to ᾱ_s = a_s, which is larger."""
    sigma = ...
    return ...


def euler_maruyama(
    denoiser: Denoiser, x: np.ndarray, rng: np.random.Generator, times: tuple[int, ...]
) -> Iterator[State]:
    """A State(s, x, x̂_0) after each step from t to s, neighbours in `times`, which fall from T to 0.

    The β of a step is β_{s+1} + … + β_t. No noise is added in the step to s = 0.
    """
    schedule = denoiser.schedule
    for t, s in pairwise(times):
        beta = ...
        prediction = denoiser(x, t)
        x = ...
        if s > 0:
            x = ...
        yield State(s, x, prediction.x0)
