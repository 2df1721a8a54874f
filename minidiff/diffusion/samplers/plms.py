"""PLMS, the pseudo linear multistep method (Liu et al. 2022): DDIM with ε̂ extrapolated from the last four.

A DDIM step takes ε̂ as constant from t to s. The Adams–Bashforth weights estimate its mean over the step from its
last values:

    ε̄ = (55 ε̂ − 59 ε̂' + 37 ε̂'' − 9 ε̂''')/24,        x_s = √ᾱ_s (x_t − √(1−ᾱ_t) ε̄)/√ᾱ_t + √(1−ᾱ_s) ε̄

The weights are those of equal steps, in t or in whatever variable the times are evenly spaced. The first steps, with
fewer ε̂, use weights of lower order; the last, to clean data, is DDIM's. The method is of second order overall, at one
evaluation of the network a step (its authors spend a few more on the first steps).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def plms(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator | None = None,
    timesteps: Sequence[float] | None = None,
) -> Iterator[State]:
    """PLMS from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    timesteps: may be real.

    Yields a State after each step, whose arrays the caller may keep or change. Draws nothing; `rng` is part of every
    sampler's signature. Raises ValueError (at the first step) for invalid times.
    """
    schedule = denoiser.schedule
    x = x_T
    past: list[np.ndarray] = []
    for t, s in pairwise(explicit(schedule.T, timesteps, whole=False)):
        x0, eps, _ = denoiser(x, t)
        past = [eps, *past[:3]]
        at = schedule.at([t, s])
        (signal_t, signal_s), (sigma_t, sigma_s) = (
            np.sqrt(a).tolist() for a in (at.alpha_bar, at.one_minus_alpha_bar)
        )
        x = signal_s * x0 + sigma_s * eps
        if s > 0 and len(past) > 1:
            mean = sum(w * e for w, e in zip(ADAMS_BASHFORTH[len(past) - 1], past, strict=True))
            x += (sigma_s - signal_s * sigma_t / signal_t) * (mean - eps)
        yield State(s, x.copy(), x0)


PLMS = Sampler(plms, steps=50, spacing="logsnr")
